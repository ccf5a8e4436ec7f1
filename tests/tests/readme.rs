//! Every SQL block of README.md and of docs/operations.md runs as it stands, in order, in one database with a log of LLM Gateway's shape.

use llm_analytics_tests::cluster::root;
use llm_analytics_tests::db::{Db, run};
use llm_analytics_tests::hosts;
use std::io::Write;
use std::process::{Command, Stdio};

fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("```sql") {
            blocks.push(lines.by_ref().take_while(|l| !l.trim_start().starts_with("```")).collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

#[test]
fn every_block_runs() {
    let mut all = Vec::new();
    for page in ["README.md", "docs/operations.md"] {
        let found = blocks(&std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}")));
        assert!(!found.is_empty(), "{page} has no sql block");
        all.extend(found);
    }
    let blocks = all;
    let installs = blocks.iter().any(|block| block.to_uppercase().contains("CREATE EXTENSION"));
    let db = if installs { Db::bare("readme") } else { Db::new("readme") };
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY);
    run(
        &mut client,
        "INSERT INTO public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, used_mode, source, prompt_tokens, completion_tokens, total_tokens, cost)
         SELECT i::text, now() AT TIME ZONE 'UTC' - i * interval '1 hour', 'org_acme', 'project' || i % 3, 'key' || i % 5, 'openai/gpt-5.5', 'openai', 'credits', 'chat', 100, 10, 110, 0.001
         FROM generate_series(1, 200) i",
    );
    // psql, because a reader will use it, and because CALL wants statements sent one by one.
    let psql = std::path::Path::new(&std::env::var("PG_BIN").expect("PG_BIN names the server's programs")).join("psql");
    for (number, block) in blocks.iter().enumerate() {
        let mut child = Command::new(&psql)
            .args([
                "-X",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                &db.server.host,
                "-p",
                &db.server.port.to_string(),
                "-U",
                &db.server.user,
                "-d",
                &db.name,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        child.stdin.take().expect("stdin").write_all(block.as_bytes()).expect("the block is sent");
        let output = child.wait_with_output().expect("psql");
        assert!(output.status.success(), "block {}\n{block}\n{}", number + 1, String::from_utf8_lossy(&output.stderr));
    }
    println!("{} blocks", blocks.len());
}
