//! What the rollups take.

use crate::report::{Bar, Report};
use crate::world::World;
use llm_analytics_tests::db::rows;

pub fn figures(world: &mut World, report: &mut Report, set: &str) {
    let levels = rows(
        &mut world.client,
        "SELECT m.relid::regclass::text, pg_total_relation_size(m.relid), (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM ' || m.relid::regclass, false, true, '')))[1]::text
         FROM pg_partition_tree('llm.rollup') m WHERE m.isleaf ORDER BY 1",
    );
    let parsed: Vec<(String, f64, f64)> =
        levels.iter().map(|row| (row[0].clone(), row[1].parse().expect("bytes"), row[2].parse().expect("rows"))).collect();
    let detail = parsed.iter().find(|(name, ..)| name == "llm._rollup_detail").map_or(0.0, |(.., rows)| *rows);
    let log_rows = world.number("SELECT count(*) FROM public.log");
    let log_bytes = world.number("SELECT pg_table_size('public.log')");
    report.figure(&format!("{set}: log, a row"), log_bytes / log_rows, "B", Bar::None);
    let (bytes, all) = parsed.iter().fold((0.0, 0.0), |(b, r), (_, bytes, rows)| (b + bytes, r + rows));
    report.figure(&format!("{set}: rollups, a row with its index"), bytes / all, "B", Bar::AtMost(110.0));
    report.figure(
        &format!("{set}: all levels, of the log's bytes"),
        bytes / log_bytes * 100.0,
        "%",
        if set == "bursty" { Bar::AtMost(12.0) } else { Bar::None },
    );
    for (name, bytes, rows) in parsed.iter().filter(|(.., rows)| *rows > 0.0) {
        let shrinks = if name == "llm._rollup_detail" || set != "bursty" { Bar::None } else { Bar::AtLeast(3.0) };
        report.figure(
            &format!("{set}: {name}: {rows} rows of {:.0} B; detail has so many times its rows", bytes / rows),
            detail / rows,
            "times",
            shrinks,
        );
    }
}
