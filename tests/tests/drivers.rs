//! `llm.analytics_drivers`: why the bill changed, recomputed in SQL from the logs, with keys that are new or gone, and parts
//! that add up to the change exactly.

use llm_analytics_tests::answers::{API_KEY, APPLICATION, Ask, Dimension, MODEL, PROJECT, PROVIDER, USER, breakdown, number, said, same};
use llm_analytics_tests::db::{Db, json, quote, run};
use llm_analytics_tests::decimal::Decimal;
use llm_analytics_tests::ledger::{self, Ledger, ORGANIZATIONS};
use postgres::Client;
use serde_json::Value;
use std::collections::BTreeMap;

const DIMENSIONS: [(&str, Dimension); 6] =
    [("model", MODEL), ("project", PROJECT), ("apiKey", API_KEY), ("user", USER), ("provider", PROVIDER), ("application", APPLICATION)];
const FIELDS: [&str; 8] = ["costBefore", "costAfter", "change", "share", "requestsBefore", "requestsAfter", "volume", "price"];

/// The range, and the one it is compared with.
struct Change {
    after: Ask,
    before: Ask,
    given: bool,
}

/// Key -> label and numbers, `share` unrounded.
fn expected(client: &mut Client, change: &Change, dimension: Dimension) -> BTreeMap<Option<String>, (String, Vec<Option<String>>)> {
    let side = |ask: &Ask| format!("d BETWEEN '{}' AND '{}'", ask.from, ask.to);
    let (before, after) = (side(&change.before), side(&change.after));
    let sql = format!(
        "WITH s AS (SELECT {column} AS k, (at AT TIME ZONE '{zone}')::date AS d, cost FROM o WHERE org = {org}),
              b AS (SELECT k, coalesce(sum(cost) FILTER (WHERE {before}), 0) AS cb, coalesce(sum(cost) FILTER (WHERE {after}), 0) AS ca,
                           count(*) FILTER (WHERE {before}) AS rb, count(*) FILTER (WHERE {after}) AS ra FROM s GROUP BY k),
              p AS (SELECT k, cb, ca, rb, ra, ca - cb AS change,
                           CASE WHEN rb = 0 THEN ca - cb WHEN ra = 0 THEN -cb
                                ELSE round((ra - rb) * (cb * 1.000000000000000000000000000000) / rb, 12) END AS volume
                    FROM b WHERE rb + ra > 0)
         SELECT k, {label}, trim_scale(cb)::text, trim_scale(ca)::text, trim_scale(change)::text, (change / nullif(sum(change) OVER (), 0))::text,
             rb::text, ra::text, trim_scale(volume)::text, trim_scale(change - volume)::text FROM p",
        column = dimension.column,
        zone = change.after.zone,
        org = quote(&change.after.org),
        label = dimension.label(),
    );
    let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| (row.get(0), (row.get(1), (2..10).map(|i| row.get(i)).collect()))).collect()
}

fn absolute(number: &Value) -> Decimal {
    Decimal::parse(number.to_string().trim_start_matches('-'))
}

/// A ratio may be rounded to 4 decimals.
fn close(shown: &Value, exact: Option<&str>, context: &str) {
    match exact {
        None => assert!(shown.is_null(), "{context}: {shown} should be null"),
        Some(exact) => {
            let (shown, exact): (f64, f64) = (shown.to_string().parse().expect("a number"), exact.parse().expect("a number"));
            assert!((shown - exact).abs() <= 0.000_051, "{context}: {shown} is not {exact}");
        }
    }
}

fn check(client: &mut Client, change: &Change) {
    let (after, before) = (&change.after, &change.before);
    let context = format!("analytics_drivers {after:?} compared with {before:?}");
    let compare = if change.given { format!(", '{}', '{}'", before.from, before.to) } else { String::new() };
    let call = format!("SELECT llm.analytics_drivers('{}', {}{compare})::text", after.org, after.range());
    let answer = json(client, &call, &[]);
    let (total_before, total_after) = (breakdown(client, before, MODEL, "true"), breakdown(client, after, MODEL, "true"));
    let mut outer = answer.clone();
    let object = outer.as_object_mut().expect("an object");
    object["change"] = Value::Null;
    object["drivers"] = Value::Null;
    let wanted = format!(
        "{{\"from\":\"{}\",\"to\":\"{}\",\"compareFrom\":\"{}\",\"compareTo\":\"{}\",\"timezone\":\"{}\",\"before\":{},\"after\":{},\"change\":null,\"drivers\":null}}",
        after.from,
        after.to,
        before.from,
        before.to,
        after.zone,
        total_before.summary(),
        total_after.summary()
    );
    same(&said(&outer), &wanted, &context);

    // change = after - before, and each dimension's changes are the whole of it
    let total = &answer["change"];
    let names: Vec<&str> = total.as_object().expect("change").keys().map(String::as_str).collect();
    assert_eq!(names, ["cost", "requestCount", "percent"], "{context}");
    for (name, of) in [("cost", 0), ("requestCount", 1)] {
        let sum = number(total, name).plus(Decimal::parse(&total_before.total[of]));
        assert_eq!(sum, Decimal::parse(&total_after.total[of]), "{context}: {name}");
    }
    if Decimal::parse(&total_before.total[0]) > Decimal::parse("0") {
        let row = client.query_one(&format!("SELECT round(100 * ({}::numeric) / {}, 8)::text", total["cost"], total_before.total[0]), &[]);
        close(&total["percent"], Some(&row.expect("a ratio").get::<_, String>(0)), &context);
    }
    let names: Vec<&str> = answer["drivers"].as_object().expect("drivers").keys().map(String::as_str).collect();
    assert_eq!(names, DIMENSIONS.map(|(name, _)| name), "{context}");
    for (name, dimension) in DIMENSIONS {
        let context = format!("{context}, by {name}");
        let wanted = expected(client, change, dimension);
        let found = answer["drivers"][name].as_array().expect("a list");
        let keys: Vec<Option<&str>> = found.iter().map(|d| d["key"].as_str()).collect();
        assert_eq!(found.len(), wanted.len(), "{context}: {keys:?}, the log has {:?}", wanted.keys());
        let mut sum = Decimal::parse("0");
        for d in found {
            let names: Vec<&str> = d.as_object().expect("a driver").keys().map(String::as_str).filter(|key| *key != "kind").collect();
            assert_eq!(names, [&["key", "label"][..], &FIELDS[..]].concat(), "{context}");
            let Some((label, numbers)) = wanted.get(&d["key"].as_str().map(str::to_owned)) else {
                panic!("{context}: {d} is not in the log")
            };
            assert_eq!(d["label"].as_str(), Some(label.as_str()), "{context}");
            for (field, number) in FIELDS.iter().zip(numbers) {
                if *field == "share" {
                    close(&d["share"], number.as_deref(), &format!("{context}: share of {d}"));
                } else {
                    assert_eq!(Some(d[field].to_string()), *number, "{context}: {field} of {d}");
                }
            }
            assert_eq!(number(d, "volume").plus(number(d, "price")), number(d, "change"), "{context}: {d}");
            sum = sum.plus(number(d, "change"));
        }
        assert_eq!(sum, number(total, "cost"), "{context}: the changes are not the whole change");
        assert!(found.is_sorted_by(|a, b| absolute(&a["change"]) >= absolute(&b["change"])), "{context}: ranked by |change|");
    }
}

fn ask(org: &str, from: &str, to: &str, zone: &str) -> Ask {
    Ask { org: org.to_owned(), from: from.to_owned(), to: to.to_owned(), zone: zone.to_owned() }
}

/// (from, to, zone, compared with, given)
const CASES: [(&str, &str, &str, &str, &str, bool); 8] = [
    ("2026-03-08", "2026-03-10", "America/New_York", "2026-03-05", "2026-03-07", false),
    ("2026-03-07", "2026-03-07", "Asia/Kolkata", "2026-03-06", "2026-03-06", false),
    ("2025-11-02", "2025-11-05", "Asia/Kathmandu", "2025-10-29", "2025-11-01", false),
    ("2026-03-05", "2026-03-12", "Europe/Berlin", "2025-10-30", "2025-11-06", true),
    ("2026-01-15", "2026-01-22", "UTC", "2025-10-30", "2025-10-31", true), // another length
    ("2025-10-30", "2025-10-31", "UTC", "2026-03-05", "2026-03-12", true), // backwards in time
    ("2026-03-05", "2026-03-10", "UTC", "2026-03-07", "2026-03-12", true), // overlapping
    ("2025-12-24", "2025-12-26", "UTC", "2025-12-21", "2025-12-23", false), // nothing at all
];

fn check_all(client: &mut Client, ledger: &Ledger) {
    ledger.snapshot(client);
    for org in ORGANIZATIONS {
        for (from, to, zone, compare_from, compare_to, given) in CASES {
            check(client, &Change { after: ask(org, from, to, zone), before: ask(org, compare_from, compare_to, zone), given });
        }
    }
}

/// Adds a key, a project and a model that only one of two ranges has.
fn new_and_gone(client: &mut Client) {
    run(
        client,
        "INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, user_id, model, provider, application, mode, input_tokens, cost)
         SELECT 9000000 + i, CASE WHEN i % 2 = 0 THEN timestamptz '2026-03-06 12:00+00' ELSE timestamptz '2026-03-09 12:00+00' END, o,
             CASE WHEN i % 2 = 0 THEN o || '_gone' ELSE o || '_new' END, CASE WHEN i % 2 = 0 THEN o || '_kgone' ELSE o || '_knew' END, 'unew' || i % 2,
             CASE WHEN i % 2 = 0 THEN 'old/model' ELSE 'new/model' END, 'p' || i % 2, 'app' || i % 2, 'credits', 10, 0.333333333333 * i
         FROM generate_series(1, 14) i, unnest('{org_a,org_c}'::text[]) o WHERE o = CASE WHEN i % 3 = 0 THEN 'org_a' ELSE 'org_c' END",
    );
}

#[test]
fn drivers_are_what_the_log_says() {
    let db = Db::new("drivers");
    let mut client = db.connect();
    let mut ledger = Ledger::new(&mut client, 20_261_126);
    ledger.write(&mut client, 300);
    new_and_gone(&mut client);
    check_all(&mut client, &ledger);
    ledger::delete(&mut client, "api_key", "org_a_k1");
    ledger::delete(&mut client, "project", "org_b_p2");
    check_all(&mut client, &ledger);
    run(&mut client, "SELECT llm.fold()");
    check_all(&mut client, &ledger);
}
