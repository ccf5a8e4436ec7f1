//! Figures beside their bars.

use crate::world::{Parameters, World};
use std::fmt::Write;

pub struct Report {
    text: String,
    passed: u32,
    failed: u32,
    is_judged: bool,
}

/// What a figure should reach.
#[derive(Clone, Copy)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Report {
    pub fn new(parameters: &Parameters) -> Report {
        let mut report = Report { text: String::new(), passed: 0, failed: 0, is_judged: !parameters.is_quick };
        let generator: Vec<String> =
            parameters.generator.iter().map(|(name, value)| format!("{} {value}", name.trim_start_matches(':'))).collect();
        report.line(&format!("{} requests over {} days; {}\n", parameters.rows, parameters.days, generator.join(", ")));
        report
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }

    pub fn machine(&mut self, world: &mut World) {
        let version = world.text("SELECT version()");
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?").trim_start_matches([' ', '\t', ':']).to_string();
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let settings = world.text(
            "SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings
             WHERE name IN ('shared_buffers', 'max_wal_size', 'synchronous_commit', 'jit', 'autovacuum', 'llm.worker')",
        );
        self.line(&format!("{version}; {cores} cores, {model}; {settings}\n"));
        self.line("| figure | value | bar | |\n| --- | --- | --- | --- |");
    }

    /// One figure. A quick run judges none: that it could be measured is what counts.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, bar: Bar) {
        let (text, is_met) = match bar {
            Bar::AtMost(most) => (format!("<= {most}"), value <= most),
            Bar::AtLeast(least) => (format!(">= {least}"), value >= least),
            Bar::None => (String::new(), true),
        };
        let verdict = match (bar, is_met) {
            (Bar::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISSED",
        };
        self.passed += u32::from(value.is_finite());
        self.failed += u32::from(!value.is_finite());
        let value = if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        let (text, verdict) = if self.is_judged { (text, verdict) } else { (String::new(), "") };
        self.line(&format!("| {name} | {value} {unit} | {text} | {verdict} |"));
    }

    /// Something that must be so.
    pub fn check(&mut self, name: &str, is_so: bool) {
        self.passed += u32::from(is_so);
        self.failed += u32::from(!is_so);
        self.line(&format!("| {name} | {} | | {} |", if is_so { "yes" } else { "NO" }, if is_so { "" } else { "WRONG" }));
    }

    /// The exit code.
    pub fn close(self) -> i32 {
        let path = llm_analytics_tests::cluster::root().join("target/bench/results.md");
        std::fs::write(&path, &self.text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("{} passed, {} failed", self.passed, self.failed);
        i32::from(self.failed > 0)
    }
}
