//! Logical replication: a subscriber counts each replicated row exactly once; a publication of everything is no obstacle to our own writes.

use llm_analytics_tests::db::{Db, Server, rows, run, text, wait_for};
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const COLUMNS: &str =
    "id int PRIMARY KEY, created_at timestamptz NOT NULL, organization_id text, api_key_id text, model text, cost numeric";
const PARTITIONED: &str = "id int, created_at timestamptz NOT NULL, organization_id text, api_key_id text, model text, cost numeric, PRIMARY KEY (created_at, id)";

/// The same log three times: plain on both sides, partitioned on both, and plain here but partitioned there.
fn tables(client: &mut Client, here: bool) {
    run(client, &format!("CREATE TABLE log_plain ({COLUMNS})"));
    for log in ["log_parts", "log_other"] {
        if here && log == "log_other" {
            run(client, &format!("CREATE TABLE log_other ({PARTITIONED})"));
            continue;
        }
        run(
            client,
            &format!(
                "CREATE TABLE {log} ({PARTITIONED}) PARTITION BY RANGE (created_at);
                 CREATE TABLE {log}_1 PARTITION OF {log} FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
                 CREATE TABLE {log}_2 PARTITION OF {log} FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z')"
            ),
        );
    }
}

const LOGS: [&str; 3] = ["log_plain", "log_parts", "log_other"];

fn on_all(client: &mut Client, sql: &str) {
    for log in LOGS {
        run(client, &sql.replace("LOG", log).replace("GONE", &format!("gone_{log}")));
    }
}

/// What should count: the rows there are, and in keep mode those that went.
fn expected(client: &mut Client, keeps: bool) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for log in LOGS {
        let gone = if keeps { format!("UNION ALL TABLE gone_{log}") } else { String::new() };
        all.extend(rows(
            client,
            &format!(
                "SELECT '{log}', llm_day::text, model, count(*)::text, trim_scale(sum(cost))::text
                 FROM (SELECT *, (created_at AT TIME ZONE 'UTC')::date AS llm_day FROM (TABLE {log} {gone}) x) y GROUP BY 2, 3 ORDER BY 2, 3"
            ),
        ));
    }
    all
}

fn told(client: &mut Client) -> Vec<Vec<String>> {
    rows(
        client,
        "SELECT organization_id, (bucket AT TIME ZONE 'UTC')::date::text, mapping, sum(requests)::text, trim_scale(sum(cost))::text
         FROM llm.usage GROUP BY 1, 2, 3 HAVING sum(requests) <> 0 ORDER BY CASE organization_id WHEN 'log_plain' THEN 1 WHEN 'log_parts' THEN 2 ELSE 3 END, 2, 3",
    )
}

struct Pair {
    publisher: Db,
    subscriber: Db,
    keeps: bool,
}

impl Pair {
    /// Waits until the subscriber has what the publisher has, and compares.
    fn check(&self, what: &str) {
        let (mut here, mut there) = (self.publisher.connect(), self.subscriber.connect());
        for log in LOGS {
            let content = format!("SELECT coalesce(md5(string_agg(l::text, ',' ORDER BY id)), '') FROM {log} l");
            let wanted = text(&mut here, &content);
            wait_for(&mut there, 30, &format!("{what}: {log} is replicated"), &content, &wanted);
        }
        assert_eq!(told(&mut there), expected(&mut here, self.keeps), "{what}");
        check_verify(&mut there);
        run(&mut there, "SELECT llm.fold()");
        assert_eq!(told(&mut there), expected(&mut here, self.keeps), "{what}, folded");
        check_verify(&mut there);
    }
}

/// Both databases are on one server, so the slot has to be there before the subscription.
fn subscribe(publisher: &Db, subscriber: &Db, via_root: bool) {
    let slot = format!("slot_{}", subscriber.name);
    run(
        &mut publisher.connect(),
        &format!("CREATE PUBLICATION p FOR TABLE log_plain, log_parts, log_other WITH (publish_via_partition_root = {via_root})"),
    );
    text(&mut publisher.connect(), &format!("SELECT slot_name FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let Server { host, port, user } = &publisher.server;
    let mut client = subscriber.connect();
    run(
        &mut client,
        &format!(
            "CREATE SUBSCRIPTION {slot} CONNECTION 'host={host} port={port} user={user} dbname={}' PUBLICATION p WITH (create_slot = false, slot_name = '{slot}')",
            publisher.name
        ),
    );
    wait_for(&mut client, 60, "the first copy", "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'", "0");
}

fn replicate(keeps: bool, via_root: bool) {
    let (publisher, subscriber) = (Db::bare("publisher"), Db::new("subscriber"));
    let mut here = publisher.connect();
    let mut there = subscriber.connect();
    tables(&mut here, true);
    tables(&mut there, false);
    on_all(&mut here, "CREATE TABLE GONE (LIKE LOG)");
    on_all(
        &mut here,
        "INSERT INTO LOG SELECT i, '2026-01-25Z'::timestamptz + i * interval '9 hours', 'LOG', 'k' || i % 3, 'm', i / 100.0 FROM generate_series(1, 30) i",
    );
    let on_delete = if keeps { "keep" } else { "subtract" };
    on_all(&mut there, &format!("SELECT llm.attach_log('LOG', capture => 'row', on_delete => '{on_delete}')"));
    subscribe(&publisher, &subscriber, via_root);
    let slot = format!("slot_{}", subscriber.name);
    let pair = Pair { publisher, subscriber, keeps };
    pair.check("the first copy");
    on_all(
        &mut here,
        "INSERT INTO LOG SELECT i, '2026-01-25Z'::timestamptz + i * interval '9 hours', 'LOG', 'k', 'm', 1 FROM generate_series(31, 50) i",
    );
    on_all(&mut here, "UPDATE LOG SET cost = cost * 2, model = 'm2' WHERE id % 3 = 0");
    pair.check("inserted and updated");
    // Where the publisher's log is partitioned, PostgreSQL publishes a move as a DELETE and an INSERT, which a subscriber cannot tell from real ones.
    run(&mut here, "INSERT INTO gone_log_parts SELECT * FROM log_parts WHERE id IN (5, 6)");
    on_all(&mut here, "UPDATE LOG SET created_at = created_at + interval '12 days' WHERE id IN (5, 6, 45)");
    pair.check("moved to another partition");
    on_all(&mut here, "WITH d AS (DELETE FROM LOG WHERE id IN (1, 2, 40, 41) RETURNING *) INSERT INTO GONE SELECT * FROM d");
    pair.check("deleted");
    on_all(
        &mut here,
        "BEGIN; DELETE FROM LOG WHERE id = 7; INSERT INTO LOG VALUES (7, '2026-02-20Z', 'LOG', 'k', 'm3', 5); UPDATE LOG SET created_at = '2026-01-02Z' WHERE id = 7; INSERT INTO GONE SELECT 7, '2026-01-27 15:00Z', 'LOG', 'k1', 'm', 0.07; COMMIT",
    );
    run(&mut here, "INSERT INTO gone_log_parts VALUES (7, '2026-02-20Z', 'log_parts', 'k', 'm3', 5)");
    pair.check("deleted and inserted in one transaction");
    on_all(&mut here, "INSERT INTO GONE SELECT * FROM LOG; TRUNCATE LOG");
    pair.check("truncated");
    on_all(&mut here, "INSERT INTO LOG VALUES (100, '2026-02-03Z', 'LOG', 'k', 'm', 7)");
    pair.check("inserted after the truncate");
    // An ordinary session of the subscriber is counted by statement, and never twice.
    on_all(&mut there, "INSERT INTO LOG VALUES (200, '2026-01-03Z', 'LOG', 'k', 'm', 8)");
    on_all(&mut here, "INSERT INTO LOG VALUES (201, '2026-01-03Z', 'LOG', 'k', 'm', 8)");
    on_all(&mut there, "UPDATE LOG SET created_at = created_at + interval '1 month' WHERE id = 200");
    on_all(&mut here, "INSERT INTO GONE VALUES (200, '2026-02-03Z', 'LOG', 'k', 'm', 8)");
    on_all(&mut there, "SET llm.on_delete = 'keep'; DELETE FROM LOG WHERE id = 200; RESET llm.on_delete");
    if keeps {
        pair.check("written by both");
    }
    // As a role that moves a row itself with its triggers off but for those of replicas.
    on_all(
        &mut there,
        "SET session_replication_role = replica; UPDATE LOG SET created_at = '2026-02-09Z' WHERE id = 201; RESET session_replication_role",
    );
    on_all(&mut here, "UPDATE LOG SET model = 'm4', created_at = '2026-02-09Z' WHERE id = 201");
    check_verify(&mut there);
    run(
        &mut there,
        &format!("ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE); DROP SUBSCRIPTION {slot}"),
    );
    let sql = format!("SELECT pg_drop_replication_slot('{slot}') FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active");
    wait_for(
        &mut here,
        30,
        "the slot is free",
        &format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"),
        "0",
    );
    run(&mut here, &sql);
}

#[test]
fn every_replicated_row_counts_once_and_is_kept() {
    replicate(true, false);
    replicate(true, true);
}

#[test]
fn every_replicated_row_counts_once_and_is_subtracted() {
    replicate(false, false);
    replicate(false, true);
}

/// An UPDATE or DELETE on a published table without a replica identity is an error: none of ours must be one.
#[test]
fn a_publication_of_all_tables() {
    let db = Db::new("published");
    let mut client = db.connect();
    tables(&mut client, false);
    run(
        &mut client,
        "CREATE PUBLICATION everything FOR ALL TABLES;
         CREATE TABLE people (id text PRIMARY KEY, name text, email text);
         INSERT INTO log_parts SELECT i, '2026-01-25Z'::timestamptz + i * interval '9 hours', 'org', 'k', 'm', 1 FROM generate_series(1, 40) i;
         SELECT llm.attach_log('log_parts'), llm.attach_log('log_plain'), llm.attach_directory('user', 'people');
         INSERT INTO people VALUES ('u', 'Ada', NULL); UPDATE people SET name = 'Ada L.'; UPDATE people SET name = 'A.'; DELETE FROM people;
         INSERT INTO llm.project VALUES ('p', 'org', 'P'); UPDATE llm.project SET name = 'Q'; DELETE FROM llm.project;
         INSERT INTO llm.organization VALUES ('org', 'O'); UPDATE llm.organization SET name = 'P'; DELETE FROM llm.organization;
         INSERT INTO llm.membership VALUES ('org', 'u', 'owner'); UPDATE llm.membership SET role = 'admin'; DELETE FROM llm.membership;
         SELECT llm.create_request_log('public.made'); SELECT llm.set_retention('public.made', '1 year')",
    );
    run(&mut client, "CALL llm.backfill()");
    run(&mut client, "UPDATE log_parts SET cost = 2 WHERE id = 3; DELETE FROM log_parts WHERE id = 4");
    run(&mut client, "CALL llm.maintain()");
    run(
        &mut client,
        "ALTER TABLE log_parts DETACH PARTITION log_parts_2; INSERT INTO log_parts_2 VALUES (99, '2026-02-03Z', 'org', 'k', 'm', 1)",
    );
    run(&mut client, "ALTER TABLE log_parts ATTACH PARTITION log_parts_2 FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z')");
    run(&mut client, "SELECT llm.fold(); UPDATE log_parts SET cost = 3 WHERE id = 3; SELECT llm.rebuild('-infinity', 'infinity')");
    check_verify(&mut client);
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage"), "41");
    run(
        &mut client,
        "SELECT llm.seal('log_plain', now()); SELECT llm.seal('log_plain', now()); ALTER TABLE log_plain RENAME TO log_renamed; DROP TABLE log_parts_1",
    );
    run(
        &mut client,
        "CREATE ROLE published_bi; SELECT llm.bind_role('published_bi', 'u'); SELECT llm.bind_role('published_bi', 'v'); SELECT llm.unbind_role('published_bi'); DROP ROLE published_bi",
    );
    run(
        &mut client,
        "SELECT llm.detach_directory('user'); SELECT llm.detach_log('log_renamed'); SELECT llm.attach_log('log_renamed'); SELECT llm.detach_log('log_parts'); SELECT llm.forget('org')",
    );
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.usage"), "0");
    run(&mut client, "DROP TABLE log_renamed, log_parts, made");
}

/// What a publication of all tables sends to a subscriber with the extension is applied, folds too: rows of ours are compared there.
#[test]
fn a_subscriber_of_all_tables_goes_on_through_folds() {
    let (publisher, subscriber) = (Db::new("all"), Db::new("all_there"));
    let (mut here, mut there) = (publisher.connect(), subscriber.connect());
    for client in [&mut here, &mut there] {
        run(client, &format!("CREATE TABLE log_plain ({COLUMNS})"));
    }
    run(&mut here, "SELECT llm.attach_log('log_plain'); CREATE PUBLICATION everything FOR ALL TABLES");
    // Rows that the extension itself makes on both sides would collide.
    run(&mut there, "DELETE FROM llm._state");
    let slot = format!("slot_{}", subscriber.name);
    text(&mut here, &format!("SELECT slot_name FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let Server { host, port, user } = &publisher.server;
    run(
        &mut there,
        &format!(
            "CREATE SUBSCRIPTION {slot} CONNECTION 'host={host} port={port} user={user} dbname={}' PUBLICATION everything
             WITH (create_slot = false, slot_name = '{slot}')",
            publisher.name
        ),
    );
    wait_for(&mut there, 60, "the first copy", "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'", "0");
    let numbers = "SELECT concat_ws(' ', (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM llm.rollup r),
                                    (SELECT count(*) FROM llm._pending), (SELECT sum(requests) FROM llm.usage), (SELECT sum(cost) FROM llm.usage))";
    for round in 0..4 {
        run(
            &mut here,
            &format!(
                "INSERT INTO log_plain SELECT {round} * 100 + i, '2026-01-25Z'::timestamptz + i * interval '5 hours', 'org', 'k' || i % 3, 'm', 1
                 FROM generate_series(1, 50) i; UPDATE log_plain SET cost = 2 WHERE id % 7 = {round}; DELETE FROM log_plain WHERE id % 11 = {round}"
            ),
        );
        run(&mut here, "CALL llm.maintain()");
        let wanted = text(&mut here, numbers);
        wait_for(&mut there, 30, &format!("round {round} is applied"), numbers, &wanted);
    }
    run(&mut here, "SELECT llm.rebuild('-infinity', 'infinity')");
    let wanted = text(&mut here, numbers);
    wait_for(&mut there, 30, "the rebuild is applied", numbers, &wanted);
    assert_eq!(text(&mut there, "SELECT count(*) FROM log_plain"), text(&mut here, "SELECT count(*) FROM log_plain"));
    run(
        &mut there,
        &format!("ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE); DROP SUBSCRIPTION {slot}"),
    );
    // The subscriber stands by itself: sequences are not replicated.
    run(
        &mut there,
        "SELECT setval('llm.source_id_seq', max(id)) FROM llm.source; SELECT setval('llm._org_org_seq', max(org)) FROM llm._org;
         SELECT setval('llm.series_id_seq', max(id)) FROM llm.series; SELECT llm.attach_log('log_plain')",
    );
    let before: u64 = text(&mut there, "SELECT sum(requests) FROM llm.usage").parse().expect("a number");
    run(&mut there, "INSERT INTO log_plain VALUES (9999, '2026-03-01Z', 'new', 'k', 'n', 1)");
    run(&mut there, "CALL llm.maintain()");
    check_verify(&mut there);
    assert_eq!(text(&mut there, "SELECT sum(requests) FROM llm.usage"), (before + 1).to_string());
    let busy = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
    wait_for(&mut here, 30, "the slot is free", &busy, "0");
    run(&mut here, &format!("SELECT pg_drop_replication_slot('{slot}')"));
}
