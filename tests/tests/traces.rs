//! The two real traces, counted by the extension and, independently, in Rust from the files.
//! One hour of 2023-11-16 UTC that has local midnight of Asia/Kolkata in its middle.

use chrono::{Duration, NaiveDateTime, Timelike};
use flate2::read::GzDecoder;
use llm_analytics_tests::cluster::root;
use llm_analytics_tests::db::{Db, json, rows, run};
use llm_analytics_tests::hosts;
use postgres::Client;
use std::collections::BTreeMap;
use std::io::{Read, Write};

const TRACES: [&str; 2] = ["code", "conv"];

struct Request {
    at: NaiveDateTime,
    input: u64,
    output: u64,
}

/// None where the files are not beside the repository.
fn read(trace: &str) -> Option<Vec<Request>> {
    let path = root().join(format!("../shared/data/azure_llm_{trace}_2023.csv.gz"));
    if !path.exists() {
        return None;
    }
    let mut csv = String::new();
    GzDecoder::new(std::fs::File::open(&path).expect("readable")).read_to_string(&mut csv).expect("gzip");
    let requests: Vec<Request> = csv
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut fields = line.trim().split(',');
            let mut next = || fields.next().expect("three fields");
            let at = NaiveDateTime::parse_from_str(next(), "%Y-%m-%d %H:%M:%S%.f").expect("a timestamp");
            // The server keeps microseconds, rounded.
            let at =
                at.with_nanosecond(0).expect("a second") + Duration::microseconds(i64::from(at.nanosecond()).saturating_add(500) / 1000);
            Request { at, input: next().parse().expect("tokens"), output: next().parse().expect("tokens") }
        })
        .collect();
    Some(requests)
}

/// USD in units of 10^-8: 1.25 and 10 dollars a million tokens.
fn price(request: &Request) -> u64 {
    request.input * 125 + request.output * 1000
}

fn copy(client: &mut Client, sql: &str, trace: &str, requests: &[Request], line: impl Fn(usize, &Request) -> String) {
    let mut writer = client.copy_in(sql).expect("copy");
    for (i, request) in requests.iter().enumerate() {
        writer.write_all(line(i, request).as_bytes()).expect("copy data");
    }
    let copied = writer.finish().expect("copy");
    assert_eq!(copied, requests.len() as u64, "{trace}");
}

fn dollars(units: u64) -> String {
    let text = format!("{}.{:08}", units / 100_000_000, units % 100_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[test]
fn traces_are_counted_to_the_last_token() {
    let mut traces = Vec::new();
    for trace in TRACES {
        match read(trace) {
            Some(requests) => traces.push((trace, requests)),
            None => {
                println!("SKIPPED: ../shared/data/azure_llm_{trace}_2023.csv.gz is not there");
                return;
            }
        }
    }
    assert_eq!(traces.iter().map(|(_, r)| r.len()).collect::<Vec<_>>(), [8_819, 19_366]);

    let db = Db::new("traces");
    let mut client = db.connect();
    run(&mut client, hosts::GATEWAY);
    run(&mut client, hosts::CANONICAL);
    // The gateway's log is attached before its rows come, the other one has them already.
    run(&mut client, "SELECT llm.attach_log('public.log')");
    for (trace, requests) in &traces {
        copy(
            &mut client,
            "COPY public.log (id, created_at, organization_id, project_id, api_key_id, used_model, used_provider, prompt_tokens, completion_tokens, total_tokens, cost) FROM STDIN",
            trace,
            requests,
            |i, r| {
                format!(
                    "{trace}{i}\t{}\tgateway\t{trace}\tkey\tazure/gpt\tazure\t{}\t{}\t{}\t0.5\n",
                    r.at,
                    r.input,
                    r.output,
                    r.input + r.output
                )
            },
        );
        copy(
            &mut client,
            "COPY public.requests (id, created_at, organization_id, project_id, api_key_id, model, input_tokens, output_tokens, cost) FROM STDIN",
            trace,
            requests,
            |i, r| {
                let id = i + if *trace == "code" { 0 } else { 1_000_000 };
                format!("{id}\t{}+00\tcanonical\t{trace}\tkey\tazure/gpt\t{}\t{}\t{}\n", r.at, r.input, r.output, dollars(price(r)))
            },
        );
    }
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    run(&mut client, "CALL llm.backfill()");

    for pending in [true, false] {
        for (zone, offset) in [("Asia/Kolkata", Duration::minutes(330)), ("UTC", Duration::zero())] {
            for org in ["gateway", "canonical"] {
                compare(&mut client, &traces, zone, offset, org, pending);
            }
        }
        run(&mut client, "SELECT llm.fold()");
    }
    let different = rows(&mut client, "SELECT v::text FROM llm.verify() v");
    assert!(different.is_empty(), "{different:?}");
}

fn compare(client: &mut Client, traces: &[(&str, Vec<Request>)], zone: &str, offset: Duration, org: &str, pending: bool) {
    // (date, project) -> requests, input, output, price
    let mut expected: BTreeMap<(String, String), [u64; 4]> = BTreeMap::new();
    for (trace, requests) in traces {
        for request in requests {
            let date = (request.at + offset).date().to_string();
            let cell = expected.entry((date, (*trace).to_owned())).or_default();
            cell[0] += 1;
            cell[1] += request.input;
            cell[2] += request.output;
            cell[3] += if org == "canonical" { price(request) } else { 50_000_000 };
        }
    }
    let days: Vec<&String> = expected.keys().map(|(date, _)| date).collect();
    assert_eq!(days.len(), if zone == "UTC" { 2 } else { 4 }, "both days of {zone} have both projects");

    let context = format!("{org} in {zone}, pending {pending}");
    let got = rows(
        client,
        &format!(
            "SELECT date, key, request_count, input_tokens, output_tokens, trim_scale(cost), total_tokens FROM llm.activity('{org}', 'project', '2023-11-16', '2023-11-17', '{zone}') WHERE key IS NOT NULL ORDER BY 1, 2"
        ),
    );
    let wanted: Vec<Vec<String>> = expected
        .iter()
        .map(|((date, project), c)| {
            vec![
                date.clone(),
                project.clone(),
                c[0].to_string(),
                c[1].to_string(),
                c[2].to_string(),
                dollars(c[3]),
                (c[1] + c[2]).to_string(),
            ]
        })
        .collect();
    assert_eq!(got, wanted, "llm.activity, {context}");

    let answer = json(client, "SELECT llm.analytics_activity($1, 'project', '2023-11-16', '2023-11-17', $2)::text", &[&org, &zone]);
    let mut seen = 0;
    for day in answer["activity"].as_array().expect("activity") {
        for entry in day["breakdown"].as_array().expect("breakdown") {
            let cell = (day["date"].as_str().expect("date").to_owned(), entry["key"].as_str().expect("key").to_owned());
            let c = expected[&cell];
            assert_eq!(entry["requestCount"].to_string(), c[0].to_string(), "{context} {cell:?}");
            assert_eq!(entry["totalTokens"].to_string(), (c[1] + c[2]).to_string(), "{context} {cell:?}");
            assert_eq!(entry["cost"].to_string(), dollars(c[3]), "{context} {cell:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, expected.len(), "{context}");
    let total: u64 = expected.values().map(|c| c[0]).sum();
    assert_eq!(answer["summary"]["requestCount"].to_string(), total.to_string(), "{context}");
}
