//! Numbers of any size: one organization's stop nobody else; values of `llm.measures` can be compared.

use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::{Db, json, refused, rows, run, text, wait_for};
use llm_analytics_tests::oracle::check_verify;
use postgres::Client;

const LOG: &str =
    "CREATE TABLE log (id int, created_at timestamptz NOT NULL, organization_id text, api_key_id text, user_id text, model text,
                   input_tokens bigint, cost numeric)";
/// 9,000 requests of as many tokens as a row may have: each statement fits into a bigint, both together do not.
const BIG: &str =
    "INSERT INTO log SELECT i, '2026-06-01 12:00Z', 'big', 'k', 'u', 'm', 999999999999999, 0.5 FROM generate_series(1, 9000) i";
const SUM: &str = "17999999999999982000";

fn insert(client: &mut Client, organization: &str, id: u32) {
    run(client, &format!("INSERT INTO log VALUES ({id}, '2026-06-01 13:00Z', '{organization}', 'k', 'u', 'm', 7, 1)"));
}

fn activity(client: &mut Client, organization: &str) -> serde_json::Value {
    let sql = "SELECT llm.analytics_activity($1, 'model', '2026-06-01', '2026-06-01')::text";
    json(client, sql, &[&organization])
}

/// What everybody but the one organization is answered, and what that is.
fn answers(client: &mut Client, small: &str) {
    assert_eq!(activity(client, "small")["summary"]["requestCount"].to_string(), small);
    let big = activity(client, "big");
    for sum in [&big["summary"], &big["breakdown"][0], &big["activity"][0]] {
        assert_eq!((sum["inputTokens"].to_string(), sum["totalTokens"].to_string()), (SUM.into(), SUM.into()), "{sum}");
    }
    let members = json(client, "SELECT llm.analytics_members('big', '2026-06-01', '2026-06-01')::text", &[]);
    assert_eq!(members["members"][0]["inputTokens"].to_string(), SUM);
    let drivers = json(client, "SELECT llm.analytics_drivers('big', '2026-06-01', '2026-06-01')::text", &[]);
    assert_eq!(drivers["after"]["inputTokens"].to_string(), SUM);
    assert_eq!(drivers["drivers"]["model"][0]["requestsAfter"].to_string(), "18000");
    // A column of type bigint is an error of the question that asks for it.
    for sql in [
        "SELECT * FROM llm.activity('big', 'model', '2026-06-01', '2026-06-01')",
        "SELECT * FROM llm.members('big', '2026-06-01', '2026-06-01')",
    ] {
        let refusal = refused(client, sql);
        assert_eq!((refusal.state.as_str(), refusal.hint.is_empty()), ("22003", false), "{sql}: {refusal:?}");
        assert_eq!(text(client, &sql.replace("'big'", "'small'").replace('*', "request_count")), small);
    }
    let usage = "SELECT sum(requests), sum(input_tokens), sum(cost) FROM llm.usage WHERE organization_id =";
    assert_eq!(text(client, &format!("{usage} 'small'")), small);
    check_verify(client);
}

#[test]
fn sums_beyond_bigint_stop_nobody() {
    let cluster = Cluster::fresh("measures", &["llm.worker = on", "llm.fold_interval = 100ms"]);
    let db = Db::new_on(cluster.server.clone(), "measures");
    let mut client = db.connect();
    run(&mut client, LOG);
    run(&mut client, "SELECT llm.attach_log('log', on_delete => 'subtract')");
    let folded = |client: &mut Client| wait_for(client, 30, "the worker folds", "SELECT count(*) FROM llm._pending", "0");
    insert(&mut client, "small", 1);
    run(&mut client, BIG);
    folded(&mut client);
    run(&mut client, BIG);
    insert(&mut client, "small", 2);
    // Pending or folded, whichever it is by now.
    answers(&mut client, "2");
    folded(&mut client);
    answers(&mut client, "2");
    let refusal = refused(&mut client, "SELECT input_tokens FROM llm.usage WHERE organization_id = 'big'");
    assert_eq!(refusal.state, "22003", "{refusal:?}");
    assert_eq!(text(&mut client, "SELECT sum(requests) FROM llm.usage WHERE organization_id = 'big'"), "18000");
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.rollup WHERE measures::text::llm.measures OPERATOR(llm.<>) measures"), "0");
    run(&mut client, "SELECT llm.rebuild('2026-06-01', '2026-06-02')");
    answers(&mut client, "2");
    assert_eq!(text(&mut client, "SELECT last_error FROM llm.status WHERE source IS NULL"), "NULL");
    // One statement whose own delta is beyond bigint, both ways.
    run(&mut client, "UPDATE log SET model = 'n' WHERE organization_id = 'big'");
    answers(&mut client, "2");
    run(&mut client, "DELETE FROM log WHERE organization_id = 'big'");
    run(&mut client, "DELETE FROM log WHERE id = 2 AND organization_id = 'small'");
    folded(&mut client);
    check_verify(&mut client);
    assert_eq!(text(&mut client, "SELECT sum(input_tokens) FROM llm.usage"), "7");
}

#[test]
fn amounts_beyond_128_bits_are_folded_and_read() {
    let db = Db::new("amounts");
    let mut client = db.connect();
    run(&mut client, LOG);
    run(&mut client, "SELECT llm.attach_log('log')");
    insert(&mut client, "small", 1);
    // No log has so many rows; what is pending is written by hand.
    for _ in 0..3 {
        run(
            &mut client,
            "INSERT INTO llm._pending SELECT bucket, source, kind, 'big', project_id, api_key_id, user_id, mapping, provider, application, mode,
             '{\"requests\":1,\"cost\":17000000000000000000000.5}' FROM llm._pending WHERE organization_id = 'small'",
        );
    }
    for _ in 0..2 {
        assert_eq!(
            text(&mut client, "SELECT trim_scale(sum(cost)) FROM llm.usage WHERE organization_id = 'big'"),
            "51000000000000000000001.5"
        );
        assert_eq!(activity(&mut client, "big")["summary"]["cost"].to_string(), "51000000000000000000001.5");
        assert_eq!(activity(&mut client, "small")["summary"]["cost"].to_string(), "1");
        run(&mut client, "SELECT llm.fold()");
    }
    assert_eq!(text(&mut client, "SELECT count(*) FROM llm.rollup WHERE measures::text::llm.measures OPERATOR(llm.<>) measures"), "0");
}

#[test]
fn values_can_be_compared() {
    let db = Db::new("compared");
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE m (id int, m llm.measures);
         INSERT INTO m SELECT i, ('{\"requests\":' || i % 7 || ',\"cost\":' || (i % 3) / 8.0 || '}')::llm.measures FROM generate_series(1, 2100) i;
         INSERT INTO m VALUES (0, NULL); ANALYZE m",
    );
    for setting in ["enable_hashagg = on", "enable_hashagg = off"] {
        run(&mut client, &format!("SET {setting}"));
        assert_eq!(text(&mut client, "SELECT count(*) FROM (SELECT DISTINCT m FROM m) d"), "22");
        assert_eq!(
            text(
                &mut client,
                "SELECT string_agg(DISTINCT n::text, ' ') FROM (SELECT count(*) AS n FROM m GROUP BY m HAVING m IS NOT NULL) g"
            ),
            "100"
        );
        assert_eq!(text(&mut client, "SELECT count(*) FROM (SELECT m FROM m EXCEPT SELECT m FROM m WHERE id % 7 = 1) e"), "19");
    }
    for join in ["hash", "merge", "nestloop"] {
        for other in ["hashjoin", "mergejoin", "nestloop"] {
            run(&mut client, &format!("SET enable_{other} = {}", other.starts_with(join)));
        }
        assert_eq!(text(&mut client, "SELECT count(*) FROM m a JOIN m b ON a.m OPERATOR(llm.=) b.m WHERE b.id <= 21"), "2100", "{join}");
    }
    run(&mut client, "CREATE INDEX ON m USING btree (m); CREATE INDEX ON m USING hash (m)");
    // However a value is written, it is one value.
    let same = "SELECT '{\"cost\":1.50,\"requests\":2}'::llm.measures OPERATOR(llm.=) '{\"requests\":2,\"cost\":1.5,\"input_cost\":0}'";
    assert_eq!(text(&mut client, same), "t");
    let order = "SELECT a.m OPERATOR(llm.<) b.m, a.m OPERATOR(llm.<=) b.m, a.m OPERATOR(llm.=) b.m,
                        a.m OPERATOR(llm.<>) b.m, a.m OPERATOR(llm.>=) b.m, a.m OPERATOR(llm.>) b.m
                 FROM m a, m b WHERE a.id < 22 AND b.id < 22 GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 3";
    assert_eq!(
        rows(&mut client, order).into_iter().filter(|row| row[0] != "NULL").map(|row| row.concat()).collect::<Vec<_>>(),
        ["fffttt", "fttftf", "ttftff"]
    );
}

#[test]
fn a_number_that_is_no_measure_is_refused() {
    let db = Db::new("no_measure");
    let mut client = db.connect();
    for sql in ["llm._count('{}', 16)", "llm._count('{}', 99)", "llm._count('{}', -1)", "llm._amount('{}', 5)", "llm._amount('{}', 99)"] {
        let refusal = refused(&mut client, &format!("SELECT {sql}"));
        assert_eq!((refusal.state.as_str(), refusal.hint.is_empty()), ("22023", false), "{sql}: {refusal:?}");
    }
}

/// What a reader takes for a text is looked at before it is read as one.
#[test]
fn a_column_of_another_type_is_an_error() {
    let db = Db::new("other_type");
    let mut client = db.connect();
    run(&mut client, LOG);
    run(&mut client, "SELECT llm.attach_log('log')");
    insert(&mut client, "org", 1);
    run(&mut client, "INSERT INTO llm.model_alias VALUES ('m', 'n', '1'); ALTER TABLE llm.model_alias ALTER COLUMN label TYPE int USING 1");
    let refusal = refused(&mut client, "SELECT llm.analytics_activity('org', 'model')");
    assert_eq!((refusal.state.as_str(), refusal.message.as_str()), ("XX000", "column \"label\" of a result has type integer, not text"));
    // A varchar is a text.
    run(&mut client, "ALTER TABLE llm.model_alias ALTER COLUMN label TYPE varchar USING 'named'");
    assert_eq!(activity(&mut client, "org")["breakdown"][0]["label"], "named");
    run(
        &mut client,
        "CREATE TABLE parts (LIKE log) PARTITION BY LIST (model);
         CREATE TABLE part PARTITION OF parts FOR VALUES IN ('m');
         SELECT llm.attach_log('parts');
         INSERT INTO parts SELECT * FROM log;
         ALTER TABLE parts DETACH PARTITION part;
         ALTER TABLE llm._left ALTER COLUMN kind TYPE bigint",
    );
    let attach = "ALTER TABLE parts ATTACH PARTITION part FOR VALUES IN ('m')";
    let refusal = refused(&mut client, attach);
    assert_eq!((refusal.state.as_str(), refusal.message.as_str()), ("XX000", "column \"kind\" of a result has type bigint, not smallint"));
    run(&mut client, "ALTER TABLE llm._left ALTER COLUMN kind TYPE smallint");
    run(&mut client, attach);
    check_verify(&mut client);
}
