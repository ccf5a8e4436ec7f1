//! Private clusters for tests that need a server of their own: settings, a worker, a stop.

use crate::db::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The extension's version, as the repository's Cargo.toml has it.
pub fn version() -> String {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
    line.trim_matches('"').to_owned()
}

/// Puts the install scripts of earlier releases among the tested server's extensions, where they stay for the tests that come after.
pub fn install_releases() {
    let pg_config = PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join("pg_config");
    let output = Command::new(pg_config).arg("--sharedir").output().expect("pg_config");
    let directory = PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim()).join("extension");
    for version in releases() {
        let name = format!("llm_analytics--{version}.sql");
        let there = directory.join(&name);
        if !there.exists() {
            // In one step, for a test that looks for it meanwhile.
            let part = directory.join(format!("{name}.{}", std::process::id()));
            std::fs::copy(root().join("sql/release").join(&name), &part).expect("a released script");
            std::fs::rename(&part, &there).expect("a released script");
        }
    }
}

/// The versions that were released before this one.
pub fn releases() -> Vec<String> {
    let names = std::fs::read_dir(root().join("sql/release")).expect("sql/release");
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let version = |name: String| Some(name.strip_prefix("llm_analytics--")?.strip_suffix(".sql")?.to_owned());
    names.filter_map(version).filter(|released| *released != crate::cluster::version()).collect()
}

pub struct Cluster {
    name: String,
    major: String,
    pub server: Server,
}

fn tested() -> String {
    std::env::var("PG_MAJOR").expect("PG_MAJOR names the server's major version")
}

fn script(arguments: &[&str]) -> String {
    let output = Command::new(root().join("scripts/cluster")).args(arguments).output().expect("scripts/cluster");
    assert!(output.status.success(), "scripts/cluster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

impl Cluster {
    /// From an empty data directory, with these settings.
    pub fn fresh(name: &str, settings: &[&str]) -> Cluster {
        Cluster::made("fresh", &tested(), name, None, settings)
    }

    /// The same of another major than the one that is tested.
    pub fn fresh_of(major: &str, name: &str, settings: &[&str]) -> Cluster {
        Cluster::made("fresh", major, name, None, settings)
    }

    /// A streaming hot standby of this cluster.
    pub fn standby(&self, name: &str, settings: &[&str]) -> Cluster {
        Cluster::made("standby", &self.major, name, Some(&self.name), settings)
    }

    fn made(action: &str, major: &str, name: &str, of: Option<&str>, settings: &[&str]) -> Cluster {
        let mut arguments = vec![action, name, major];
        arguments.extend(of);
        arguments.extend(settings);
        let environment = script(&arguments);
        let variable = |key: &str| {
            let line = environment.lines().find_map(|line| line.strip_prefix(&format!("export {key}="))).expect("a variable");
            line.trim_matches('\'').replace('\\', "")
        };
        let server = Server { host: variable("PGHOST"), port: variable("PGPORT").parse().expect("PGPORT"), user: variable("PGUSER") };
        Cluster { name: name.to_owned(), major: major.to_owned(), server }
    }

    pub fn stop(&self) {
        script(&["stop", &self.name, &self.major]);
    }

    pub fn data(&self) -> PathBuf {
        let environment = script(&["env", &self.name, &self.major]);
        environment.lines().find_map(|line| line.strip_prefix("export PGDATA=")).expect("PGDATA").into()
    }

    /// The postmaster's process id; None when it does not run.
    pub fn postmaster(&self) -> Option<u32> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.parse().ok()?;
        Path::new(&format!("/proc/{pid}/stat")).exists().then_some(pid)
    }

    pub fn promote(&self) {
        script(&["promote", &self.name, &self.major]);
    }

    pub fn start(&self, settings: &[&str]) {
        let mut arguments = vec!["start", &self.name, &self.major];
        arguments.extend(settings);
        script(&arguments);
    }

    pub fn log(&self) -> String {
        let path = script(&["log", &self.name, &self.major]);
        std::fs::read_to_string(path.trim()).unwrap_or_default()
    }

    /// For whoever looks into a failed test: the log outlives the cluster, and what it says of deadlocks and crashes is printed.
    fn keep_log(&self) {
        let log = self.log();
        let kept = root().join(format!("target/log/failed-{}-{}.log", self.name, self.major));
        let said = std::fs::write(&kept, &log).map_or_else(|error| error.to_string(), |()| kept.display().to_string());
        println!("the log of {}: {said}", self.name);
        let lines: Vec<&str> = log.lines().collect();
        let grave = |line: &str| ["deadlock detected", "PANIC", "terminated by signal"].iter().any(|what| line.contains(what));
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| grave(line)) {
            println!("{}", lines[at..lines.len().min(at + 12)].join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_log();
        }
        let _ = Command::new(root().join("scripts/cluster")).args(["drop", &self.name, &self.major]).output();
    }
}
