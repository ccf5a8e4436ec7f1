//! The benchmark: every figure is a ratio or a median inside one run. bench/README.md says what each is.

mod changes;
mod generate;
mod ingest;
mod reads;
mod report;
mod storage;
mod world;

use report::Report;
use world::{Parameters, World};

fn main() {
    let parameters = Parameters::from_env();
    let mut report = Report::new(&parameters);
    let mut world = World::start(&parameters);
    report.machine(&mut world);
    for set in ["bursty", "adversarial"] {
        if !parameters.wants_set(set) {
            continue;
        }
        generate::history(&mut world, set == "bursty");
        changes::backfill(&mut world, &mut report, set);
        if parameters.wants("reads") {
            reads::figures(&mut world, &mut report, set);
        }
        if parameters.wants("storage") {
            storage::figures(&mut world, &mut report, set);
        }
        if set == "bursty" {
            if parameters.wants("changes") {
                changes::figures(&mut world, &mut report);
            }
            if parameters.wants("ingest") {
                ingest::figures(&mut world, &mut report);
            }
        }
        world.reset();
    }
    std::process::exit(report.close());
}
