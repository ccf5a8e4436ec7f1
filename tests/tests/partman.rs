//! pg_partman on an attached log: moving rows between partitions changes no number, dropping old ones neither.

use llm_analytics_tests::db::{Db, rows, run, text};
use postgres::Client;

/// Everything the numbers say, and what verify finds.
fn numbers(client: &mut Client) -> Vec<Vec<String>> {
    assert_eq!(rows(client, "SELECT * FROM llm.verify()"), Vec::<Vec<String>>::new());
    rows(
        client,
        "SELECT bucket, organization_id, api_key_id, mapping, sum(requests), sum(input_tokens), sum(cost) FROM llm.usage
         GROUP BY 1, 2, 3, 4 HAVING sum(requests) <> 0 ORDER BY 1, 2, 3, 4",
    )
}

fn log_rows(client: &mut Client, relation: &str) -> i64 {
    text(client, &format!("SELECT count(*) FROM {relation}")).parse().expect("a count")
}

#[test]
fn pg_partman_drain_and_retention() {
    for on_delete in ["keep", "subtract"] {
        let db = Db::new("partman");
        let mut client = db.connect();
        run(
            &mut client,
            "CREATE SCHEMA partman;
             CREATE EXTENSION pg_partman SCHEMA partman;
             CREATE TABLE public.log (id int, created_at timestamptz NOT NULL, organization_id text, api_key_id text, model text,
                 input_tokens bigint, cost numeric) PARTITION BY RANGE (created_at);
             SELECT partman.create_parent('public.log', 'created_at', 'native', 'monthly', p_premake => 1);",
        );
        run(&mut client, &format!("SELECT llm.attach_log('public.log', on_delete => '{on_delete}')"));
        // A year of rows, most of which have no partition of their own.
        run(
            &mut client,
            "INSERT INTO public.log SELECT i, now() - i * interval '3 hours', 'org' || i % 3, 'k' || i % 7, 'm' || i % 2, i, i / 1000.0 FROM generate_series(1, 2900) i",
        );
        let before = numbers(&mut client);
        assert!(log_rows(&mut client, "public.log_default") > 1000);
        // The drain: DELETE from the default partition, INSERT into new ones; half of it folded on the way.
        run(&mut client, "SET llm.on_delete = 'subtract'; SELECT partman.partition_data_time('public.log', p_batch_count => 4)");
        assert_eq!(numbers(&mut client), before);
        run(&mut client, "SELECT llm.fold(); SELECT partman.partition_data_time('public.log', p_batch_count => 100)");
        assert_eq!(log_rows(&mut client, "public.log_default"), 0);
        assert_eq!(log_rows(&mut client, "public.log"), 2900);
        assert_eq!(numbers(&mut client), before);
        run(&mut client, "RESET llm.on_delete; SELECT llm.fold()");
        assert_eq!(numbers(&mut client), before);
        // Old partitions go, in one mode of the log as in the other.
        run(
            &mut client,
            "UPDATE partman.part_config SET retention = '4 months', retention_keep_table = false; SELECT partman.run_maintenance('public.log')",
        );
        assert!(log_rows(&mut client, "public.log") < 1300);
        assert_eq!(numbers(&mut client), before);
        run(&mut client, "SELECT llm.rebuild('-infinity', 'infinity')");
        assert_eq!(numbers(&mut client), before);
    }
}
