//! What is released stays as it was released: `scripts/release` freezes, `scripts/release check` notices.

use llm_analytics_tests::cluster::{root, version};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit status and what was said. `check` looks at the repository's own directories, or at those of a trial.
fn release(arguments: &[&str], trial: Option<&Path>) -> (bool, String) {
    let mut command = Command::new(root().join("scripts/release"));
    command.args(arguments).arg(std::env::var("PG_MAJOR").expect("PG_MAJOR names the server's major version"));
    if let Some(trial) = trial {
        command.env("RELEASES", trial.join("release")).env("UPGRADES", trial.join("upgrade"));
    }
    let output = command.output().expect("scripts/release");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_released_is_as_it_was() {
    let (ok, said) = release(&["check"], None);
    assert!(ok, "{said}");
}

#[test]
fn a_changed_release_is_noticed() {
    let trial = Trial(root().join(format!("target/test/release-{}", std::process::id())));
    fs::create_dir_all(trial.0.join("upgrade")).expect("a directory");
    let frozen = trial.0.join("release").join(format!("llm_analytics--{}.sql", version()));
    let checksums = trial.0.join("release/CHECKSUMS");
    let check = |what: &str, wanted: &str| {
        let (ok, said) = release(&["check"], Some(&trial.0));
        assert_eq!(ok, wanted.starts_with("=="), "{what}: {said}");
        assert!(said.contains(wanted.trim_start_matches("== ")), "{what}: {said}");
        said
    };
    check("nothing is frozen", "== is not released yet");
    for _ in 0..2 {
        let (ok, said) = release(&[], Some(&trial.0));
        assert!(ok, "{said}");
    }
    assert_eq!(fs::read_to_string(&checksums).expect("CHECKSUMS").lines().count(), 1, "freezing again changes nothing");
    check("frozen", "== is released as it is built");
    let script = fs::read_to_string(&frozen).expect("the frozen script");
    assert!(!script.contains("src/api/") && !script.contains("auto generated"), "the frozen script has what pgrx says of the source");

    fs::write(&frozen, script.replacen("NOT NULL", "", 1)).expect("an edit");
    let said = check("edited", "was edited");
    assert!(said.contains("Cargo.toml") && said.contains("sql/upgrade/"), "{said}");

    // Another schema under the released version: frozen as it was, and the installed one is not that any more.
    fs::remove_file(&checksums).expect("no CHECKSUMS");
    check("not listed", "no line in");
    let sum = Command::new("sha256sum")
        .arg(frozen.file_name().expect("a name"))
        .current_dir(trial.0.join("release"))
        .output()
        .expect("sha256sum");
    fs::write(&checksums, &sum.stdout).expect("CHECKSUMS");
    let said = check("another schema", "has changed since");
    assert!(said.contains("Cargo.toml") && said.contains("sql/upgrade/"), "{said}");

    // A release before this one, and no way from it.
    let (old, line) = (trial.0.join("release/llm_analytics--0.0.1.sql"), String::from_utf8(sum.stdout).expect("UTF-8"));
    fs::rename(&frozen, old).expect("rename");
    fs::write(&checksums, line.replace(&version(), "0.0.1")).expect("CHECKSUMS");
    let upgrade = format!("llm_analytics--0.0.1--{}.sql", version());
    check("no upgrade script", &upgrade);
    fs::write(trial.0.join("upgrade").join(&upgrade), "").expect("an upgrade script");
    check("an upgrade script", "== is not released yet");
}
