//! History into public.log.

use crate::world::World;
use llm_analytics_tests::db::run;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the generator and a year of requests that ends now.
pub fn history(world: &mut World, bursty: bool) {
    let sql =
        world.parameters.generator.iter().fold(include_str!("../generate.sql").to_owned(), |sql, (name, value)| sql.replace(name, value));
    world.run(&sql);
    world.run("SELECT bench.make_log('public.log'); DROP INDEX public.log_created_at_idx, public.log_organization_id_created_at_idx, public.log_project_id_created_at_idx, public.log_api_key_id_created_at_idx");
    let (rows, days) = (world.parameters.rows, world.parameters.days);
    let today = world.text("SELECT current_date");
    // Every fifth request of a weekend is one that a business day has five of.
    let weights: Vec<f64> = (0..days)
        .map(|day| {
            if !bursty || world.number(&format!("SELECT extract(isodow FROM date '{today}' - {days} + {})", day + 1)) < 6.0 {
                1.0
            } else {
                0.3
            }
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    let next = AtomicU64::new(0);
    let clients = [world.connect(), world.connect()];
    std::thread::scope(|scope| {
        for mut client in clients {
            let (next, weights, today) = (&next, &weights, &today);
            scope.spawn(move || {
                run(&mut client, "SET TimeZone = 'UTC'; SET synchronous_commit = off");
                loop {
                    let day = next.fetch_add(1, Ordering::Relaxed);
                    if day >= days {
                        break;
                    }
                    let count = (rows as f64 * weights[day as usize] / sum) as u64;
                    run(
                        &mut client,
                        &format!(
                            "INSERT INTO public.log SELECT (bench.day(date '{today}' - {days} + {} + 0, {}, {count}, {bursty})).*",
                            day + 1,
                            day * 100_000_000
                        ),
                    );
                }
            });
        }
    });
    world.run(
        "CREATE INDEX ON public.log (created_at); CREATE INDEX ON public.log (organization_id, created_at);
         CREATE INDEX ON public.log (project_id, created_at); CREATE INDEX ON public.log (api_key_id, created_at); ANALYZE public.log",
    );
}
