//! Reading: the functions beside the raw log and a materialized view, in alternation.

use crate::report::{Bar, Report};
use crate::world::{World, median};
use std::collections::HashMap;

const MEASURES: &str = "sum(cost), count(*), sum(input_tokens), sum(output_tokens), sum(input_tokens + output_tokens), count(*) FILTER (WHERE is_error), count(*) FILTER (WHERE is_cached)";

fn activity(group: &str, days: u64, tz: &str) -> String {
    format!("SELECT llm.analytics_activity('org_0', '{group}', current_date - {}, current_date, '{tz}')", days - 1)
}

/// What a gateway would ask its log, or a materialized view of it.
fn raw(column: &str, days: u64, tz: &str, is_view: bool) -> String {
    let (table, at, measures) = if is_view {
        (
            "bench.hourly",
            "hour",
            "sum(cost), sum(requests), sum(input_tokens), sum(output_tokens), sum(total_tokens), sum(errors), sum(cached)",
        )
    } else {
        ("public.log", "created_at", MEASURES)
    };
    format!(
        "SELECT ({at} AT TIME ZONE '{tz}')::date, {column}, {measures} FROM {table}
         WHERE organization_id = 'org_0' AND {at} >= (current_date - {})::timestamp AT TIME ZONE '{tz}' AND {at} < (current_date + 1)::timestamp AT TIME ZONE '{tz}'
         GROUP BY 1, 2",
        days - 1
    )
}

fn p50(world: &mut World, sql: &str, rounds: u64) -> f64 {
    median((0..rounds).map(|_| world.time(sql)).collect())
}

pub fn figures(world: &mut World, report: &mut Report, set: &str) {
    let is_bursty = set == "bursty";
    let year = world.parameters.days;
    let rounds = world.parameters.of(21, 3);
    if is_bursty {
        world.run(
            "CREATE MATERIALIZED VIEW bench.hourly AS
             SELECT date_trunc('hour', created_at, 'UTC') AS hour, organization_id, project_id, api_key_id, model, provider, application, mode, sum(cost) AS cost,
                    count(*) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(input_tokens + output_tokens) AS total_tokens,
                    count(*) FILTER (WHERE is_error) AS errors, count(*) FILTER (WHERE is_cached) AS cached
             FROM public.log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8",
        );
        world.run("CREATE INDEX ON bench.hourly (organization_id, hour); ANALYZE bench.hourly");
    }
    let mut berlin = HashMap::new();
    for (group, column, limit, times, limit_30) in
        [("project", "project_id", 15.0, 50.0, 3.0), ("model", "model", 40.0, 20.0, 6.0), ("apiKey", "api_key_id", 30.0, 25.0, 5.0)]
    {
        exact(world, report, group, year, set);
        let ours = activity(group, year, "Europe/Berlin");
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        p50(world, &ours, 2);
        for round in 0..rounds {
            a.push(world.time(&ours));
            if is_bursty && round < world.parameters.of(3, 1) {
                b.push(world.time(&raw(column, year, "Europe/Berlin", false)));
                c.push(world.time(&raw(column, year, "Europe/Berlin", true)));
            }
        }
        let value = median(a);
        let factor = if is_bursty { 1.0 } else { 3.0 };
        report.figure(&format!("{set}: year by {group}, Europe/Berlin, p50"), value, "ms", Bar::AtMost(limit * factor));
        if is_bursty {
            report.figure(&format!("{set}: the raw log / that"), median(b) / value, "times", Bar::AtLeast(times));
            report.figure(&format!("{set}: the materialized view / that"), median(c) / value, "times", Bar::None);
            for tz in ["Asia/Kolkata", "America/Los_Angeles"] {
                let there = p50(world, &activity(group, year, tz), rounds);
                report.figure(&format!("{set}: year by {group}, {tz}"), there, "ms", Bar::AtMost(2.5 * limit));
            }
            let month = p50(world, &activity(group, 30, "Europe/Berlin"), rounds);
            report.figure(&format!("{set}: 30 days by {group}"), month, "ms", Bar::AtMost(limit_30));
        }
        berlin.insert(group, value);
    }
    if !is_bursty {
        return;
    }
    for (name, sql, limit) in [
        (
            "members table, year",
            format!("SELECT llm.analytics_members('org_0', current_date - {}, current_date, 'Europe/Berlin')", year - 1),
            30.0,
        ),
        (
            "members table, 30 days",
            "SELECT llm.analytics_members('org_0', current_date - 29, current_date, 'Europe/Berlin')".to_string(),
            5.0,
        ),
        (
            "one key's page, year",
            format!("SELECT llm.analytics_api_key('org_0', 'org_0_k7', current_date - {}, current_date, 'Europe/Berlin')", year - 1),
            15.0,
        ),
        (
            "drivers, 30 days against 30",
            "SELECT llm.analytics_drivers('org_0', current_date - 29, current_date, 'Europe/Berlin')".to_string(),
            25.0,
        ),
    ] {
        p50(world, &sql, 2);
        let value = p50(world, &sql, rounds);
        report.figure(&format!("{set}: {name}"), value, "ms", Bar::AtMost(limit));
    }
    pending(world, report, berlin["project"]);
}

/// The answer's sums are the raw log's, as text.
fn exact(world: &mut World, report: &mut Report, group: &str, days: u64, set: &str) {
    let sql = format!(
        "SELECT ((a ->> 'cost') = trim_scale(l.cost)::text AND (a ->> 'requestCount') = l.requests::text)::text
         FROM (SELECT ({}) -> 'summary' AS a) x,
              (SELECT coalesce(sum(cost), 0) AS cost, count(*) AS requests FROM public.log WHERE organization_id = 'org_0'
                 AND created_at >= (current_date - {})::timestamp AT TIME ZONE 'Europe/Berlin' AND created_at < (current_date + 1)::timestamp AT TIME ZONE 'Europe/Berlin') l",
        activity(group, days, "Europe/Berlin"),
        days - 1
    );
    let is_exact = world.text(&sql) == "true";
    report.check(&format!("{set}: year by {group} equals the raw log"), is_exact);
}

/// What pending rows add to a read.
fn pending(world: &mut World, report: &mut Report, without: f64) {
    let wanted = world.parameters.of(100_000, 5_000);
    world.run("SET llm.on_delete = 'subtract'");
    let before = world.number("SELECT count(*) FROM llm._pending");
    assert_eq!(before, 0.0, "folded before");
    let mut first = 8_000_000_000_000_u64;
    while world.number("SELECT count(*) FROM llm._pending") < wanted as f64 {
        world.run(&format!("DO $$ BEGIN FOR n IN 0..19 LOOP INSERT INTO public.log SELECT * FROM bench.live({first} + n * 100, 100, date_trunc('hour', now())); END LOOP; END $$"));
        first += 2_000;
    }
    let rows = world.number("SELECT count(*) FROM llm._pending");
    let sql = activity("project", world.parameters.days, "Europe/Berlin");
    let rounds = world.parameters.of(21, 3);
    let with = p50(world, &sql, rounds);
    report.figure("reads: more per 100,000 pending rows", (with - without) * 100_000.0 / rows, "ms", Bar::AtMost(8.0));
    let started = std::time::Instant::now();
    let folded = world.number("SELECT llm.fold()");
    report.figure("fold of live-shaped deltas (these)", folded / started.elapsed().as_secs_f64(), "a second", Bar::AtLeast(300_000.0));
    world.run("VACUUM llm._pending");
    world.run("RESET llm.on_delete");
}
