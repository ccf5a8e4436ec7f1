//! Backfill, late rows, updates, loads.

use crate::report::{Bar, Report};
use crate::world::{World, median};
use std::time::Instant;

pub fn backfill(world: &mut World, report: &mut Report, set: &str) {
    world.run("SELECT llm.attach_log('public.log')");
    let rows = world.number("SELECT count(*) FROM public.log");
    let took = world.time("CALL llm.backfill()") / 1000.0;
    report.figure(
        &format!("{set}: backfill"),
        rows / took,
        "log rows a second",
        if set == "bursty" { Bar::AtLeast(80_000.0) } else { Bar::None },
    );
    world.run("VACUUM (ANALYZE) llm.rollup, llm.series, llm._pending");
    let cost = "SELECT (SELECT sum(cost) FROM llm.usage) = (SELECT sum(cost) FROM public.log) AND (SELECT sum(requests) FROM llm.usage) = (SELECT count(*) FROM public.log)";
    let is_exact = world.text(cost) == "t";
    report.check(&format!("{set}: after the backfill the totals are the log's"), is_exact);
}

pub fn figures(world: &mut World, report: &mut Report) {
    late(world, report);
    let n = world.parameters.of(100_000, 5_000);
    for name in ["public.bare", "public.captured"] {
        world.run(&format!(
            "SELECT bench.make_log('{name}'); INSERT INTO {name} SELECT * FROM bench.live(1, {n}, date_trunc('hour', now()))"
        ));
        world.run(&format!("SELECT bench.make_log('{name}_root', true)"));
    }
    world.run("SELECT llm.attach_log('public.captured', backfill => false), llm.attach_log('public.captured_root')");
    world.run("VACUUM ANALYZE public.bare, public.captured");
    let rounds = world.parameters.of(5, 1);
    let update = |table: &str| format!("UPDATE public.{table} SET request_id = request_id || '.'");
    let ratio = alternate(world, rounds, &update("bare"), &update("captured"));
    report.figure("UPDATE of 100,000 rows that changes no mapped column, of bare", ratio * 100.0, "%", Bar::AtLeast(70.0));
    let file = world.cluster.data().join("live.copy").display().to_string();
    world.run(&format!(
        "COPY (SELECT * FROM bench.live(1, {}, date_trunc('hour', now()))) TO '{file}'",
        world.parameters.of(200_000, 5_000)
    ));
    let copy = |table: &str| format!("COPY public.{table} FROM '{file}'");
    let ratio = alternate(world, rounds, &copy("bare_root"), &copy("captured_root"));
    report.figure("COPY of live-shaped rows into a partitioned root, of bare", ratio * 100.0, "%", Bar::None);
    let ratio = alternate(world, rounds, &copy("bare"), &copy("captured"));
    report.figure("COPY of live-shaped rows, of bare", ratio * 100.0, "%", Bar::AtLeast(85.0));
    world.run("SELECT llm.fold(); DROP TABLE public.bare, public.bare_root, public.captured, public.captured_root");
}

/// Speed of the second of its bare twin's.
fn alternate(world: &mut World, rounds: u64, bare: &str, captured: &str) -> f64 {
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        world.run("CHECKPOINT");
        let a = world.time(bare);
        world.run("CHECKPOINT");
        let b = world.time(captured);
        ratios.push(a / b);
    }
    median(ratios)
}

fn late(world: &mut World, report: &mut Report) {
    let n = world.parameters.of(100_000, 5_000);
    world.run("SELECT llm.fold()");
    let before = world.number("SELECT sum(requests) FROM llm.usage");
    let rows: String = (0..30)
        .map(|day| format!("SELECT (bench.day(current_date - {day}, 9000000000000 + {day} * 1000000, {}, true)).*", n / 30))
        .collect::<Vec<_>>()
        .join(" UNION ALL ");
    world.run(&format!("CREATE TABLE bench.late AS SELECT * FROM ({rows}) x ORDER BY bench.dice(id, 1, 1000000)"));
    let inserted = world.number("SELECT count(*) FROM bench.late");
    world.run("INSERT INTO public.log TABLE bench.late");
    let visible = world.number("SELECT sum(requests) FROM llm.usage") - before;
    report.check("late rows are visible at once", visible == inserted);
    let started = Instant::now();
    world.run("SELECT llm.fold()");
    report.figure(&format!("fold of {inserted} late rows of 30 days"), started.elapsed().as_secs_f64(), "s", Bar::AtMost(2.5));
    world.run("VACUUM llm._pending");
}
