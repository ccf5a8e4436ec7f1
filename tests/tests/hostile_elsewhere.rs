//! The hostile owner of hostile_owner.rs on a standby, through a dump, and through an upgrade of the extension.

use llm_analytics_tests::cluster::{install_releases, version};
use llm_analytics_tests::db::{run, text, wait_for};
use llm_analytics_tests::hostile::life::{altered, counted, ended, made, retained, written};
use llm_analytics_tests::hostile::{ATTACH, Actor, Host, OURS, said, statements, without_what_followed};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// A standby reads the logs (llm.verify) and the directories, and writes nothing that could tell: the log does.
#[test]
fn on_a_standby() {
    let mut host = Host::new("hostile_primary", &["synchronous_commit = on"]);
    host.step_of("attached", Actor::Dba, &statements(ATTACH));
    made(&mut host);
    written(&mut host);
    host.step("backfill", Actor::Dba, "CALL llm.backfill()");
    let standby = host.cluster.standby("hostile_standby", &["hot_standby_feedback = on"]);
    let position = text(host.client(Actor::Dba), "SELECT pg_current_wal_flush_lsn()");
    let mut clients = ["postgres", "b"].map(|role| standby.server.connect_as(&host.db.name, role));
    wait_for(&mut clients[0], 30, "the standby replays", &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t");
    for client in &mut clients {
        for sql in [
            "SELECT llm.analytics_members('org', '2026-06-01', '2026-06-30')",
            "SELECT llm.analytics_activity('org', 'user', '2026-06-01', '2026-06-30')",
            "SELECT user_name, sum(cost) FROM llm.usage GROUP BY 1",
        ] {
            run(client, sql);
        }
    }
    run(&mut clients[0], "SELECT * FROM llm.verify()");
    run(&mut clients[0], "SELECT * FROM llm.status");
    let ran = said(&standby.log());
    for place in ["directory", "directory id", "mapping"] {
        assert!(ran.iter().any(|(seen, who, _)| seen == place && who == "m"), "the test is blind: {place} never ran on the standby");
    }
    for (place, who, _) in ran.iter().filter(|(_, who, _)| who != "m") {
        host.fault(format!("on the standby: {place} ran as {who}"));
    }
    drop(clients);
    drop(standby);
    host.finish();
}

/// ALTER EXTENSION UPDATE by a superuser touches tables that were attached with an older version.
#[test]
fn upgraded() {
    install_releases();
    let mut host = Host::with("hostile_upgrade", &[], "CREATE EXTENSION llm_analytics VERSION '0.1.1'");
    host.step_of("attached", Actor::Dba, &statements(ATTACH));
    made(&mut host);
    written(&mut host);
    host.forgive();
    host.step("ALTER EXTENSION UPDATE", Actor::Dba, &format!("ALTER EXTENSION llm_analytics UPDATE TO '{}'", version()));
    written(&mut host);
    counted(&mut host, "upgraded");
    retained(&mut host, Actor::Owner);
    ended(&mut host, Actor::Owner);
    host.finish();
}

fn program(host: &Host, name: &str, arguments: &[&str]) -> std::process::Output {
    let path = PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join(name);
    let server = &host.db.server;
    let output = Command::new(path).args(["-h", &server.host, "-p", &server.port.to_string(), "-U", &server.user]).args(arguments).output();
    output.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a restore by a superuser runs of m's functions is PostgreSQL's doing: defaults, checks, generated columns, keys and
/// domains of the rows it copies. llm_analytics adds nothing to it, and afterwards its own steps run them as m again.
#[test]
fn dumped_and_restored() {
    let mut host = Host::new("hostile_dump", &[]);
    host.step_of("attached", Actor::Dba, &statements(ATTACH));
    made(&mut host);
    written(&mut host);
    host.step("fold", Actor::Dba, "SELECT llm.fold()");
    written(&mut host);
    let file = host.db.server.host.clone() + "/hostile.dump";
    let name = host.db.name.clone();
    let dump = program(&host, "pg_dump", &["-Fc", "-f", &file, "-d", &name]);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    host.check("pg_dump", Actor::Dba);
    run(host.client(Actor::Dba), "CREATE DATABASE restored TEMPLATE template0");
    let restore = program(&host, "pg_restore", &["-d", "restored", &file]);
    let said = String::from_utf8_lossy(&restore.stderr).into_owned();
    let _ = std::fs::remove_file(&file);
    let mut of_postgresql = BTreeSet::new();
    for (place, who, _) in host.news() {
        if who != "m" && OURS.contains(&without_what_followed(&place)) {
            host.fault(format!("pg_restore: {place} ran as {who}: nothing of PostgreSQL's own runs that"));
        } else if who != "m" {
            of_postgresql.insert(place);
        }
    }
    println!("pg_restore itself ran as a superuser: {of_postgresql:?}");
    run(host.client(Actor::Dba), "ALTER ROLE m NOSUPERUSER");
    host.in_database("restored");
    // Whoever restores confirms who is whom.
    run(host.client(Actor::Dba), "SELECT llm.bind_role('b', 'u')");
    if !restore.status.success() {
        println!("pg_restore said: {said}");
    }
    host.expect("the logs are attached", "SELECT count(*) FROM llm.source WHERE state = 'attached'", "6");
    host.verify("restored");
    counted(&mut host, "restored");
    written(&mut host);
    altered(&mut host);
    counted(&mut host, "restored and written to");
    retained(&mut host, Actor::Owner);
    ended(&mut host, Actor::Owner);
    host.finish();
}
