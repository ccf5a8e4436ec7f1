//! Writing: pgbench into a table that is captured and into its bare twin, in alternation.

use crate::report::{Bar, Report};
use crate::world::{World, median};
use llm_analytics_tests::db::{rows, wait_for};
use std::path::PathBuf;
use std::process::Command;

/// Scripts of literal INSERTs, as a gateway sends them.
fn scripts(world: &mut World, per_statement: usize, count: usize) -> Vec<String> {
    let values = rows(
        &mut world.client,
        &format!(
            "SELECT format('(%s, now(), %L, %L, %L, %L, %L, %L, %L, %s, %s, %s, %s, %s, %s, %L, %L, %L, %s, %s, %L, %L, %L)', id, organization_id, project_id, api_key_id,
                 model, provider, application, mode, input_tokens, output_tokens, coalesce(cached_tokens, 0), cost, input_cost, output_cost, is_error, is_streamed, is_cached,
                 duration_ms, time_to_first_token_ms, request_id, messages, response_metadata) FROM bench.live(1, {}, now())",
            per_statement * count
        ),
    );
    values.chunks(per_statement).map(|chunk| chunk.iter().map(|row| row[0].as_str()).collect::<Vec<_>>().join(", ")).collect()
}

struct Load {
    directory: PathBuf,
    files: usize,
}

impl Load {
    fn new(world: &mut World, name: &str, per_statement: usize, files: usize) -> Load {
        let directory = llm_analytics_tests::cluster::root().join("target/bench").join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        for (at, values) in scripts(world, per_statement, files).into_iter().enumerate() {
            for table in ["bare", "captured"] {
                std::fs::write(directory.join(format!("{table}_{at}.sql")), format!("INSERT INTO public.{table} VALUES {values};\n"))
                    .expect("a script");
            }
        }
        Load { directory, files }
    }

    /// Transactions a second.
    fn run(&self, world: &World, table: &str, clients: u64, seconds: u64) -> f64 {
        let bin = PathBuf::from(std::env::var("PG_BIN").expect("PG_BIN names the server's programs"));
        let server = &world.cluster.server;
        let mut command = Command::new(bin.join("pgbench"));
        command.args(["-n", "-M", "simple", "-j", "2", "-c", &clients.to_string(), "-T", &seconds.to_string()]);
        command.args(["-h", &server.host, "-p", &server.port.to_string(), "-U", &server.user]);
        for at in 0..self.files {
            command.arg("-f").arg(self.directory.join(format!("{table}_{at}.sql")));
        }
        let output = command.arg(world.database_name()).output().expect("pgbench");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
        tps.and_then(|tps| tps.parse().ok()).unwrap_or_else(|| panic!("pgbench gives no tps: {text}"))
    }
}

fn tidy(world: &mut World) {
    world.run("SELECT llm.fold()");
    world.run("VACUUM llm._pending");
    world.run("CHECKPOINT");
}

fn ratio(world: &mut World, load: &Load, clients: u64) -> f64 {
    let (rounds, seconds) = (world.parameters.of(7, 1), world.parameters.of(6, 1));
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut tps = [0.0; 2];
        // Who is first changes from round to round.
        for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            tidy(world);
            tps[at] = load.run(world, ["bare", "captured"][at], clients, seconds);
        }
        ratios.push(tps[1] / tps[0]);
    }
    median(ratios)
}

pub fn figures(world: &mut World, report: &mut Report) {
    world.run("SELECT bench.make_log('public.bare'), bench.make_log('public.captured')");
    world.run("SELECT llm.attach_log('public.captured')");
    let hundred = Load::new(world, "hundred", 100, 50);
    let one = Load::new(world, "one", 1, 100);
    for (name, load, clients, bar) in [
        ("100-row INSERTs, 2 clients", &hundred, 2, 95.0),
        ("one-row INSERTs, 2 clients", &one, 2, 93.0),
        ("one-row INSERTs, 16 clients", &one, 16, 88.0),
    ] {
        let value = ratio(world, load, clients);
        report.figure(&format!("ingest: {name}, of bare"), value * 100.0, "%", Bar::AtLeast(bar));
    }
    tidy(world);
    // Deltas as they come live: of statements of a hundred rows.
    let wanted = world.parameters.of(400_000, 5_000) as f64;
    while world.number("SELECT count(*) FROM llm._pending") < wanted {
        hundred.run(world, "captured", 2, world.parameters.of(5, 1));
    }
    let started = std::time::Instant::now();
    let folded = world.number("SELECT llm.fold()");
    report.figure("fold of live-shaped deltas", folded / started.elapsed().as_secs_f64(), "a second", Bar::AtLeast(300_000.0));
    sustained(world, report, &hundred);
    world.run("SET llm.on_delete = 'subtract'; TRUNCATE public.captured, public.bare; RESET llm.on_delete; SELECT llm.fold()");
    let is_proved = world.text("SELECT count(*) FROM llm.verify((current_date - 3)::timestamptz, 'infinity')") == "0";
    report.check("at the end llm.verify() of the last days finds no difference", is_proved);
}

/// With the worker folding on the same cores.
fn sustained(world: &mut World, report: &mut Report, load: &Load) {
    let (rounds, seconds) = (world.parameters.of(3, 1), world.parameters.of(20, 2));
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        tidy(world);
        let bare = load.run(world, "bare", 2, seconds);
        tidy(world);
        world.run("ALTER SYSTEM SET llm.worker = on");
        world.run("SELECT pg_reload_conf()");
        let captured = load.run(world, "captured", 2, seconds);
        wait_for(&mut world.client, 60, "pending is drained", "SELECT count(*) FROM llm._pending", "0");
        world.run("ALTER SYSTEM SET llm.worker = off");
        world.run("SELECT pg_reload_conf()");
        ratios.push(captured / bare);
    }
    report.figure("sustained 100-row INSERTs with the worker folding, of bare", median(ratios) * 100.0, "%", Bar::AtLeast(80.0));
}
