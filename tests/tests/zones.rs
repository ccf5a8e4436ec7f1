//! Local days in every zone the server and chrono-tz both know, against `(t AT TIME ZONE tz)::date` row by row.

use chrono_tz::TZ_VARIANTS;
use llm_analytics_tests::db::{Db, refused, rows, run, text};
use llm_analytics_tests::hosts;
use postgres::Client;

/// Odd ones, with every day on which their offset changes; all other zones get sampled days and their changes, too.
const ODD: [&str; 12] = [
    "America/Havana",
    "Atlantic/Azores",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/Scoresbysund",
    "America/Asuncion",
];

fn database() -> (Db, Client) {
    let db = Db::new("zones");
    let mut client = db.connect();
    run(&mut client, hosts::CANONICAL);
    run(&mut client, "SELECT llm.attach_log('public.requests')");
    (db, client)
}

/// Rows just before, at and after local midnight of sampled days and of every change of offset, one organization a zone.
const ROWS: &str = "
    CREATE TABLE days AS
        SELECT zone, d::date AS day FROM zones, generate_series('2018-06-02'::timestamp, '2040-12-30', interval '1 day') d
        -- the day before, of and after a change of the offset
        WHERE (d - interval '36 hours') AT TIME ZONE 'UTC' AT TIME ZONE zone - (d - interval '36 hours') <> (d + interval '36 hours') AT TIME ZONE 'UTC' AT TIME ZONE zone - (d + interval '36 hours')
          AND (odd OR extract(year FROM d) IN (2018, 2019, 2026, 2033, 2040))
        UNION
        SELECT zone, date '2018-06-01' + (hashtext(zone || n) & 8191) % 8240 FROM zones, generate_series(1, 8) n;
    CREATE TABLE instants AS
        SELECT DISTINCT zone, t + s AS t FROM days, (SELECT 1) x,
            -- a day may have two midnights or none: an hour, half an hour and two hours to either side as well
            LATERAL (SELECT day::timestamp AT TIME ZONE zone + make_interval(mins => m) AS t FROM unnest('{-120,-60,-30,0,30,60,120}'::int[]) m) c,
            unnest('{-1 us,0}'::interval[]) s
        WHERE t + s >= '2018-06-01 12:00+00';
    INSERT INTO public.requests (id, created_at, organization_id, project_id, api_key_id, model, cost, input_tokens)
        SELECT row_number() OVER (), t, zone, NULL, 'k', 'm', 0.001, 1 FROM instants;
    ANALYZE days; ANALYZE instants;";

#[test]
fn local_days_are_those_of_the_server() {
    let (_db, mut client) = database();
    let known: Vec<String> = TZ_VARIANTS.iter().map(|zone| zone.name().to_owned()).collect();
    let odd: Vec<&str> = ODD.to_vec();
    client.execute("CREATE TABLE zones AS SELECT name AS zone, false AS odd FROM pg_timezone_names WHERE false", &[]).expect("zones");
    client
        .execute(
            "INSERT INTO zones SELECT name, name = ANY($2::text[]) FROM pg_timezone_names WHERE name = ANY($1::text[])",
            &[&known, &odd],
        )
        .expect("zones");
    let count: usize = text(&mut client, "SELECT count(*) FROM zones").parse().expect("a count");
    assert!(count > 400, "only {count} zones are known to both");
    for zone in ODD {
        assert_eq!(text(&mut client, &format!("SELECT count(*) FROM zones WHERE zone = '{zone}'")), "1", "{zone}");
    }
    run(&mut client, ROWS);
    run(&mut client, "SELECT llm.fold()");

    // AT TIME ZONE takes these four for abbreviations, an offset all year round; as names of zones they have summer time. Their days are
    // those of a zone that has had the same rules since before 2018.
    run(
        &mut client,
        "CREATE TABLE same AS SELECT zone, coalesce(s.other, zone) AS rules FROM zones LEFT JOIN
            (VALUES ('CET', 'Europe/Brussels'), ('MET', 'Europe/Brussels'), ('EET', 'Europe/Athens'), ('WET', 'Europe/Lisbon')) s (name, other)
            ON name = zone",
    );
    // The day of an instant, where a clock set back over midnight makes dates go back: the latest date reached by then.
    run(
        &mut client,
        "CREATE TABLE expected AS SELECT zone, max((t AT TIME ZONE rules)::date) OVER (PARTITION BY zone ORDER BY t) AS day FROM instants JOIN same USING (zone);
         CREATE INDEX ON expected (zone)",
    );
    let sql = "WITH a AS (
            SELECT zone, date, request_count FROM zones z,
                LATERAL (SELECT * FROM llm.activity(zone, 'model', '2018-06-01', '2028-06-30', zone)
                         UNION ALL SELECT * FROM llm.activity(zone, 'model', '2028-07-01', '2038-06-30', zone)
                         UNION ALL SELECT * FROM llm.activity(zone, 'model', '2038-07-01', '2041-01-02', zone)) x WHERE key IS NOT NULL),
        e AS (SELECT zone, day, count(*) FROM expected GROUP BY 1, 2)
        SELECT 'answered', x::text FROM (TABLE a EXCEPT ALL TABLE e) x UNION ALL SELECT 'expected', x::text FROM (TABLE e EXCEPT ALL TABLE a) x LIMIT 20";
    let different = rows(&mut client, sql);
    assert!(different.is_empty(), "{different:#?}");
    println!("{count} zones, {} instants", text(&mut client, "SELECT count(*) FROM instants"));
}

/// One request every quarter of an hour: a day of 23, 24 or 25 hours has 92, 96 or 100 of them.
#[test]
fn days_have_23_24_and_25_hours() {
    let (_db, mut client) = database();
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost)
         SELECT row_number() OVER (), t, 'org', 'k', 'm', 1 FROM unnest('{2026-03-05,2026-03-26,2026-04-02,2026-10-22,2026-10-29}'::date[]) d,
            generate_series(d::timestamp AT TIME ZONE 'UTC', (d + 6)::timestamp AT TIME ZONE 'UTC', interval '15 minutes') t",
    );
    for (zone, day, quarters) in [
        ("America/New_York", "2026-03-08", 92),
        ("America/New_York", "2026-03-07", 96),
        ("America/New_York", "2026-11-01", 100),
        ("Europe/Berlin", "2026-03-29", 92),
        ("Europe/Berlin", "2026-10-25", 100),
        ("America/Havana", "2026-03-08", 92),
        ("America/Havana", "2026-11-01", 100),
        ("Australia/Lord_Howe", "2026-04-05", 98),
        ("Antarctica/Troll", "2026-03-29", 88),
        ("Asia/Kathmandu", "2026-03-08", 96),
        ("Asia/Beirut", "2026-03-29", 92),
    ] {
        let sql = format!("SELECT coalesce(sum(request_count), 0) FROM llm.activity('org', 'model', '{day}', '{day}', '{zone}')");
        assert_eq!(text(&mut client, &sql), quarters.to_string(), "{zone} {day}");
        let oracle = format!("SELECT count(*) FROM public.requests WHERE (created_at AT TIME ZONE '{zone}')::date = '{day}'");
        assert_eq!(text(&mut client, &oracle), quarters.to_string(), "the test's own arithmetic, {zone} {day}");
    }
}

#[test]
fn a_day_whose_start_is_no_cut_is_refused() {
    let (_db, mut client) = database();
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2010-05-01 12:00+00', 'org', 'k', 'm', 1)",
    );
    for (zone, day) in [("America/Caracas", "2010-05-01"), ("Asia/Pyongyang", "2016-05-01"), ("Pacific/Norfolk", "2014-05-01")] {
        for call in ["llm.analytics_activity", "llm.activity"] {
            let refusal = refused(&mut client, &format!("SELECT {call}('org', 'model', '{day}', '{day}', '{zone}')"));
            assert_eq!(refusal.state, "0A000", "{call} {zone} {day}: {refusal:?}");
            assert!(refusal.message.contains(zone), "names the zone: {refusal:?}");
            assert!(format!("{refusal:?}").contains(&day[..8]), "names the date: {refusal:?}");
        }
    }
    // The same zones today, and old days of a zone on the hour, are fine.
    for (zone, day) in [
        ("America/Caracas", "2026-05-01"),
        ("Asia/Pyongyang", "2026-05-01"),
        ("Pacific/Norfolk", "2026-05-01"),
        ("Europe/Berlin", "2010-05-01"),
    ] {
        run(&mut client, &format!("SELECT llm.analytics_activity('org', 'model', '{day}', '{day}', '{zone}')"));
    }
}

#[test]
fn zones_are_iana_names_in_any_letter_case() {
    let (_db, mut client) = database();
    run(
        &mut client,
        "INSERT INTO public.requests (id, created_at, organization_id, api_key_id, model, cost) VALUES (1, '2026-05-01 12:00+00', 'org', 'k', 'm', 1)",
    );
    for bad in [
        "EST5",
        "CEST",
        "<+03>-3",
        "+02",
        "",
        " ",
        "UTC+3",
        "Europe/Berlin ",
        "posix/Europe/Berlin",
        "Mars/Base",
        "localtime",
        "../../etc/passwd",
        "EST5EDT,M3.2.0,M11.1.0",
    ] {
        for call in ["llm.analytics_activity", "llm.activity"] {
            let refusal = refused(&mut client, &format!("SELECT {call}('org', 'model', '2026-05-01', '2026-05-01', '{bad}')"));
            assert_eq!(refusal.state, "22023", "{bad:?}: {refusal:?}");
            assert!(!refusal.hint.is_empty(), "{bad:?}: {refusal:?}");
        }
    }
    for (given, canonical) in [
        ("europe/BERLIN", "Europe/Berlin"),
        ("utc", "UTC"),
        ("ASIA/kathmandu", "Asia/Kathmandu"),
        ("America/Argentina/buenos_aires", "America/Argentina/Buenos_Aires"),
    ] {
        let sql = format!("SELECT llm.analytics_activity('org', 'model', '2026-05-01', '2026-05-01', '{given}')->>'timezone'");
        assert_eq!(text(&mut client, &sql), canonical);
    }
}
