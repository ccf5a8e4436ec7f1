//! The steps of a log's life, each tried by itself: what ran as whom is looked at after each.

use super::{ATTACH, Actor, Host, MANAGED, WRITES, statements};

/// m drops next month's partition of its managed log, so that the next maintenance makes it again.
pub const DROP_NEXT_MONTH: &str = "DO $$ BEGIN EXECUTE format('DROP TABLE m.made_%s', to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')); END $$";
/// Months of the managed log that m owns: last month, this one and the next two.
pub const MONTHS: &str = r"SELECT count(*) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relnamespace = 'm'::regnamespace AND p.relname LIKE 'made%' AND c.relname ~ '_\d{4}_\d\d$' AND c.relowner = 'm'::regrole";
pub const OLD_MONTH: &str = "SELECT to_regclass('m.made_2020_01')::text";

pub fn made(host: &mut Host) {
    host.step("create_request_log", Actor::Owner, "SELECT llm.create_request_log('m.made')");
    host.step_of("m adds to its managed log", Actor::Owner, &statements(MANAGED));
}

pub fn written(host: &mut Host) {
    host.step_of("writes", Actor::Gateway, &statements(WRITES));
    host.copy(
        "COPY to a list",
        "COPY m.listed (created_at, organization_id, api_key_id, model, cost) FROM STDIN",
        "2026-06-07Z\torg\tk\ta\t1\n2026-06-07Z\torg\tk\tb\t1\n",
    );
    host.copy("COPY to ranges", "COPY m.ranged FROM STDIN", "2026-06-07Z\torg\tk\tm\t1\tapp\n2026-09-07Z\torg\tk\tm\t1\tapp\n");
}

/// What everybody may ask and a DBA may do, over all of it.
pub fn counted(host: &mut Host, when: &str) {
    for sql in [
        "SELECT llm.fold()",
        "CALL llm.backfill()",
        "SELECT llm.rebuild('2026-01-01', '2027-01-01')",
        "SELECT llm.rebuild('2026-01-01', '2027-01-01', 'org', true)",
        "SELECT * FROM llm.status",
        "SELECT sum(requests) FROM llm.usage",
        "SELECT llm.analytics_members('org', '2026-06-01', '2026-06-30')",
    ] {
        host.step(&format!("{when}: {sql}"), Actor::Dba, sql);
    }
    host.verify(when);
    for sql in [
        "SELECT llm.analytics_activity('org', 'user', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_activity('org', 'apiKey', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_members('org', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_member('org', 'u', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_me('org', '2026-06-01', '2026-06-30')",
        "SELECT llm.analytics_api_keys('org')",
        "SELECT llm.access('org')",
        "SELECT user_name, api_key, sum(cost) FROM llm.usage GROUP BY 1, 2",
    ] {
        host.step(&format!("{when}: {sql}"), Actor::Reader, sql);
    }
}

/// A superuser writes to tables of which only the mapping is m's: as any session does, and as an apply worker does.
pub fn written_by_a_superuser(host: &mut Host) {
    for table in ["m.mapped", "m.applied"] {
        for replica in ["origin", "replica"] {
            let set = format!("SET session_replication_role = {replica}");
            let insert = format!("INSERT INTO {table} SELECT '2026-06-01Z', 'org', 'k', 'm', i FROM generate_series(1, 3) i");
            let (update, delete) = (format!("UPDATE {table} SET cost = cost + 1"), format!("DELETE FROM {table} WHERE cost < 3"));
            let what = format!("a superuser writes to {table} as {replica}");
            host.step_of(&what, Actor::Dba, &[&set, &insert, &update, &delete, "RESET session_replication_role"]);
        }
        host.step(&format!("a superuser truncates {table}"), Actor::Dba, &format!("TRUNCATE {table}"));
    }
}

/// DDL of a superuser's, on one of those tables and on nothing of m's, which has llm_analytics look at mappings again.
pub fn altered_by_a_superuser(host: &mut Host) {
    for sql in [
        "ALTER TABLE m.mapped ADD COLUMN later int",
        "ALTER TABLE m.mapped RENAME COLUMN cost TO price",
        "ALTER TABLE m.mapped RENAME COLUMN price TO cost",
        "CREATE INDEX ON m.mapped (created_at)",
        "GRANT SELECT ON m.mapped TO g",
        "ALTER FUNCTION m.n(text, numeric) COST 300",
        "ALTER TYPE m.model ADD VALUE 'c'",
        "CREATE SCHEMA other",
        "CREATE TABLE other.t (a int, b text) PARTITION BY LIST (a)",
        "CREATE TABLE other.t_1 PARTITION OF other.t FOR VALUES IN (1)",
        "ALTER TABLE other.t ADD COLUMN c int",
        "ALTER TABLE other.t DETACH PARTITION other.t_1",
        "CREATE FUNCTION other.f(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $2'",
        "ALTER FUNCTION other.f(text, text) COST 5",
        "CREATE TYPE other.e AS ENUM ('a')",
        "ALTER TYPE other.e RENAME VALUE 'a' TO 'b'",
        "CREATE DOMAIN other.d AS text",
        "ALTER DOMAIN other.d ADD CHECK (VALUE <> '')",
        "CREATE OPERATOR other.=== (FUNCTION = other.f, LEFTARG = text, RIGHTARG = text)",
        "ALTER SCHEMA other RENAME TO another",
        "DROP SCHEMA another CASCADE",
        "VACUUM (ANALYZE) m.plain",
        "REINDEX TABLE m.listed",
        "REINDEX TABLE m.people",
    ] {
        host.step(&format!("a superuser: {sql}"), Actor::Dba, sql);
    }
}

/// DDL of m's own. What llm_analytics does behind it, with more rights than m has, must not reach m's functions.
pub fn altered(host: &mut Host) {
    for sql in [
        "ALTER TABLE m.ranged ATTACH PARTITION m.ranged_5 FOR VALUES FROM ('2026-05-01Z', MINVALUE) TO ('2026-06-01Z', MINVALUE)",
        "ALTER TABLE m.listed DETACH PARTITION m.listed_a",
        "ALTER TABLE m.listed ATTACH PARTITION m.listed_a FOR VALUES IN (m.f('list bound', 'xa'))",
        "CREATE TABLE m.listed_e PARTITION OF m.listed FOR VALUES IN (m.f('list bound', 'xe'))",
        "DROP TABLE m.listed_e",
        "ALTER TABLE m.plain ADD COLUMN later text DEFAULT m.f('default of a new column', 'x')",
        "ALTER TABLE m.plain RENAME COLUMN app TO app2",
        "ALTER TABLE m.plain RENAME COLUMN app2 TO app",
        "ALTER TABLE m.plain ALTER COLUMN api_key_id TYPE varchar",
        "ALTER TABLE m.people RENAME COLUMN name TO called",
        "ALTER TABLE m.people RENAME COLUMN called TO name",
        "CREATE OR REPLACE FUNCTION m.n(place text, x numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM m.e(place); RETURN x; END $$",
        "ALTER FUNCTION m.f(text, text) COST 200",
        "DROP INDEX m.ranged_5_expr_idx",
    ] {
        host.step(sql, Actor::Owner, sql);
    }
}

pub fn retained(host: &mut Host, by: Actor) {
    host.step("seal", by, "SELECT llm.seal('m.ranged', '2026-05-20Z')");
    host.step("seal of a list", by, "SELECT llm.seal('m.listed', '2026-01-01Z')");
    host.step("set_retention", by, "SELECT llm.set_retention('m.made', '13 months')");
    host.step("m drops next month", Actor::Owner, DROP_NEXT_MONTH);
    host.step("CALL llm.maintain()", Actor::Dba, "CALL llm.maintain()");
    host.expect("next month is there again, and m's", MONTHS, "4");
    host.expect("the month past its retention is gone", OLD_MONTH, "NULL");
    let odd = r#""made'; ALTER ROLE m SUPERUSER; --""#;
    host.step("m renames its managed log", Actor::Owner, &format!("ALTER TABLE m.made RENAME TO {odd}"));
    host.step("m drops a month again", Actor::Owner, DROP_NEXT_MONTH);
    host.step("CALL llm.maintain() with an odd name", Actor::Dba, "CALL llm.maintain()");
    host.expect("the month is there again under an odd name", MONTHS, "4");
    host.step("m renames it back", Actor::Owner, &format!("ALTER TABLE m.{odd} RENAME TO made"));
    host.step("writes to the new month", Actor::Gateway, "INSERT INTO m.made (created_at, organization_id, api_key_id, model, application) VALUES (date_trunc('month', now()) + interval '40 days', 'org', 'k', 'm', 'app')");
    host.verify("after maintenance");
    host.step_of(
        "TRUNCATE",
        Actor::Gateway,
        &["TRUNCATE m.ranged", "TRUNCATE m.listed_a", "TRUNCATE m.plain", "TRUNCATE m.people", "DELETE FROM m.made"],
    );
    host.verify("after TRUNCATE");
}

pub fn ended(host: &mut Host, by: Actor) {
    host.step("one row stays", Actor::Gateway, "INSERT INTO m.ranged VALUES ('2026-06-05Z', 'org', 'k', 'm', 1, 'app')");
    host.refused(Actor::Dba, "SELECT llm.forget('org')", "55000");
    for log in ["plain", "listed", "ranged", "made", "mapped", "applied"] {
        host.step(&format!("detach_log of {log}"), by, &format!("SELECT llm.detach_log('m.{log}')"));
    }
    for kind in ["user", "api_key", "membership"] {
        host.step(&format!("detach_directory of {kind}"), by, &format!("SELECT llm.detach_directory('{kind}')"));
    }
    host.step("attached again", by, statements(ATTACH)[1]);
    host.step("maintained again", Actor::Dba, "CALL llm.maintain()");
    host.step("detached again", by, "SELECT llm.detach_log('m.listed')");
    host.step("forget", Actor::Dba, "SELECT llm.forget('org')");
    host.step("DROP EXTENSION", Actor::Dba, "DROP EXTENSION llm_analytics");
}
