//! Random transactions against the logs. The only thing they leave for the oracle is a copy of what they delete in keep mode,
//! made in the same transaction.

use crate::model::{self, Kind, Log};
use crate::rng::Rng;
use postgres::Client;
use std::io::Write;

/// What one worker of a round needs: new ids of its own, and whether it is alone.
pub struct Writer {
    pub rng: Rng,
    next_id: i64,
    /// No other connection writes while this one does.
    pub alone: bool,
    pub committed: u64,
    pub given_up: u64,
}

/// Outcomes that concurrent transactions have to expect, and the ones our operations provoke on purpose.
/// 23505 duplicate key; 40001, 40P01 concurrency; 55P03 lock not had in time; 57014 canceled; 21000 MERGE meets a row twice; 22012 provoked.
const EXPECTED: [&str; 7] = ["23505", "40001", "40P01", "55P03", "57014", "21000", "22012"];

impl Writer {
    pub fn new(rng: Rng, number: i64, alone: bool) -> Writer {
        Writer { rng, next_id: number * 1_000_000_000, alone, committed: 0, given_up: 0 }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn log(&mut self) -> Log {
        Log::ALL[self.rng.below(3) as usize]
    }

    /// One transaction: several operations, savepoints among them, and sometimes a rollback.
    pub fn transaction(&mut self, client: &mut Client) {
        match self.attempt(client) {
            Ok(true) => self.committed += 1,
            Ok(false) => self.given_up += 1,
            Err(error) => {
                self.given_up += 1;
                let _ = client.batch_execute("ROLLBACK");
                self.tolerate(&error);
            }
        }
    }

    /// As [`Writer::transaction`], on a server that may die meanwhile; false when the connection is lost.
    pub fn transaction_until_lost(&mut self, client: &mut Client) -> bool {
        match self.attempt(client) {
            Ok(_) => self.committed += 1,
            Err(error) => {
                self.given_up += 1;
                if is_lost(&error) || client.batch_execute("ROLLBACK").is_err() {
                    return false;
                }
                self.tolerate(&error);
            }
        }
        true
    }

    fn tolerate(&self, error: &postgres::Error) {
        let state = error.as_db_error().map(|e| e.code().code().to_owned()).unwrap_or_default();
        // A MERGE that would move rows to another partition is refused.
        let refused_merge = state == "0A000" && error.as_db_error().is_some_and(|e| e.message().starts_with("MERGE cannot move rows"));
        assert!(refused_merge || EXPECTED.contains(&state.as_str()), "an operation failed: {error:?}");
    }

    fn attempt(&mut self, client: &mut Client) -> Result<bool, postgres::Error> {
        if self.rng.percent(50) {
            let log = self.log();
            let sql = self.statement(log);
            if sql != "COPY" {
                return client.batch_execute(&sql).map(|()| true);
            }
            client.batch_execute("BEGIN")?;
            self.execute(client, log, &sql)?;
            return client.batch_execute("COMMIT").map(|()| true);
        }
        client.batch_execute("BEGIN")?;
        self.settings(client)?;
        for _ in 0..=self.rng.below(4) {
            let log = self.log();
            if self.rng.percent(25) {
                client.batch_execute("SAVEPOINT s")?;
                let sql = self.statement(log);
                let result = self.execute(client, log, &sql).and_then(|()| match self.rng.below(3) {
                    0 => client.batch_execute("SELECT 1 / 0"),
                    _ => Ok(()),
                });
                match result {
                    Err(error) if is_lost(&error) => return Err(error),
                    Err(error) => {
                        self.tolerate(&error);
                        client.batch_execute("ROLLBACK TO s")?;
                    }
                    Ok(()) => client.batch_execute(self.rng.pick(&["ROLLBACK TO s", "RELEASE s"]))?,
                }
            } else {
                let sql = self.statement(log);
                self.execute(client, log, &sql)?;
            }
        }
        if self.rng.percent(5) {
            client.batch_execute("SELECT llm.fold()")?;
        }
        let commit = self.rng.percent(80);
        client.batch_execute(if commit { "COMMIT" } else { "ROLLBACK" })?;
        Ok(commit)
    }

    /// Settings of a session that must not matter.
    fn settings(&mut self, client: &mut Client) -> Result<(), postgres::Error> {
        match self.rng.below(8) {
            0 => client.batch_execute("SET LOCAL extra_float_digits = -15"),
            1 => client.batch_execute("SET LOCAL timezone = 'Asia/Kathmandu'"),
            2 => client.batch_execute("SET LOCAL datestyle = 'German, DMY'"),
            3 => client.batch_execute("SET LOCAL search_path = ''"),
            _ => Ok(()),
        }
    }

    /// `BEGIN` .. without an end: the caller commits or rolls back after other sessions have folded.
    pub fn open(&mut self, client: &mut Client) {
        let log = self.log();
        let sql = self.insert(log);
        client.batch_execute(&format!("BEGIN; {sql}")).expect("an insert of new rows");
    }

    fn execute(&mut self, client: &mut Client, log: Log, sql: &str) -> Result<(), postgres::Error> {
        if sql != "COPY" {
            return client.batch_execute(sql);
        }
        let rows: String = (0..=self.rng.below(30))
            .map(|_| {
                let id = self.id();
                model::copy_line(&model::row(log, &mut self.rng, id))
            })
            .collect();
        // A COPY that fails before it has read its data leaves the driver out of step with the server: what it may wait for is locked first.
        client.batch_execute(&format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", log.table()))?;
        let mut writer = client.copy_in(&format!("COPY {} ({}) FROM STDIN", log.table(), model::names(log, "")))?;
        writer.write_all(rows.as_bytes()).expect("copy data");
        writer.finish().map(|_| ())
    }

    fn statement(&mut self, log: Log) -> String {
        match self.rng.below(100) {
            0..=24 => self.insert(log),
            25..=32 => "COPY".to_owned(),
            33..=55 => self.update(log),
            56..=67 => self.delete(log),
            68..=81 => self.upsert(log),
            82..=89 => self.merge(log),
            90..=93 => self.write_twice(log),
            94..=96 => self.leaf(),
            97 if self.rng.percent(30) => self.truncate(log),
            _ => format!("INSERT INTO {t} ({c}) SELECT {c} FROM {t} WHERE false", t = log.table(), c = model::names(log, "")),
        }
    }

    /// A few rows of the log, the same ones for everybody at the same moment.
    fn some(&mut self) -> String {
        format!("(hashtext(id::text) & {}) = {}", [15, 63, 255][self.rng.below(3) as usize], self.rng.below(16))
    }

    fn tuples(&mut self, log: Log, count: u64) -> String {
        let tuples: Vec<String> = (0..count)
            .map(|_| {
                let id = self.id();
                model::tuple(log, &model::row(log, &mut self.rng, id))
            })
            .collect();
        tuples.join(", ")
    }

    fn insert(&mut self, log: Log) -> String {
        let count = if self.rng.percent(60) { 1 } else { 2 + self.rng.below(30) };
        format!("INSERT INTO {} ({}) VALUES {}", log.table(), model::names(log, ""), self.tuples(log, count))
    }

    /// One or two columns get a new value, or the one they have, or a NULL.
    fn set(&mut self, log: Log) -> String {
        let columns = &log.columns()[1..];
        let mut first = None;
        let mut parts = Vec::new();
        for _ in 0..=self.rng.below(2) {
            let (name, kind) = columns[self.rng.below(columns.len() as u64) as usize];
            if first == Some(name) {
                continue;
            }
            first = Some(name);
            let value = match self.rng.below(10) {
                0 => name.to_owned(),
                1 => "DEFAULT".to_owned(),
                2 if matches!(kind, Kind::At | Kind::Timestamp) => format!("{name} + interval '37 minutes'"),
                3 if kind == Kind::Status => format!("{name} + 100"),
                _ => model::literal(&kind.value(&mut self.rng, 0), kind),
            };
            parts.push(format!("{name} = {value}"));
        }
        parts.join(", ")
    }

    fn update(&mut self, log: Log) -> String {
        let (set, some) = (self.set(log), self.some());
        format!("UPDATE {} SET {set} WHERE {some}", log.table())
    }

    fn delete(&mut self, log: Log) -> String {
        let (some, table, kept) = (self.some(), log.table(), log.kept());
        if log == Log::Gateway {
            return format!("DELETE FROM {table} WHERE {some}");
        }
        let columns = model::names(log, "");
        match self.rng.below(5) {
            0 | 1 => format!("SET LOCAL llm.on_delete = 'subtract'; DELETE FROM {table} WHERE {some}; RESET llm.on_delete"),
            2 if self.alone || log == Log::Canonical => {
                let batch = format!("b{}", self.id());
                format!(
                    "INSERT INTO {kept} ({columns}, batch) SELECT {columns}, '{batch}' FROM {table} WHERE {some} FOR UPDATE;
                     DELETE FROM {table} WHERE id IN (SELECT id FROM {kept} WHERE batch = '{batch}')"
                )
            }
            _ => format!("WITH d AS (DELETE FROM {table} WHERE {some} RETURNING *) INSERT INTO {kept} ({columns}) SELECT {columns} FROM d"),
        }
    }

    fn upsert(&mut self, log: Log) -> String {
        let (columns, some, at) = (model::names(log, ""), self.some(), log.columns()[1].0);
        let id = self.id();
        let new = model::row(log, &mut self.rng, id);
        let new: Vec<String> = new.iter().zip(log.columns()).map(|(v, (_, k))| model::literal(v, *k)).collect();
        let action = if self.rng.percent(25) {
            "DO NOTHING".to_owned()
        } else {
            let money = if log == Log::Partitioned { "spend" } else { "cost" };
            // The partition key of a row cannot be moved by an upsert into another partition.
            let set = loop {
                let set = self.set(log);
                if log != Log::Partitioned || !set.split(", ").any(|part| part.starts_with("at =")) {
                    break set;
                }
            };
            format!("DO UPDATE SET {}", if self.rng.percent(30) { format!("{money} = excluded.{money} + 1") } else { qualify(&set, log) })
        };
        format!(
            "INSERT INTO {t} AS old ({columns}) SELECT {columns} FROM {t} WHERE {some} AND {at} IS NOT NULL UNION ALL SELECT {new} ON CONFLICT {conflict} {action}",
            t = log.table(),
            new = new.join(", "),
            conflict = log.conflict(),
        )
    }

    fn merge(&mut self, log: Log) -> String {
        let (columns, some, table) = (model::names(log, ""), self.some(), log.table());
        let new = self.tuples(log, 1);
        let set = loop {
            let set = self.set(log);
            if !set.contains(" + ") {
                break set;
            }
        };
        let deletes = log == Log::Gateway && self.rng.percent(40);
        let delete = if deletes { "WHEN MATCHED AND hashtext(t.id::text) % 3 = 0 THEN DELETE" } else { "" };
        format!(
            "MERGE INTO {table} t USING (SELECT DISTINCT ON (id) {columns} FROM (SELECT {columns} FROM {table} WHERE {some} UNION ALL SELECT * FROM (VALUES {new}) v) u ORDER BY id) s
             ON t.id = s.id {delete} WHEN MATCHED AND hashtext(t.id::text) % 3 = 1 THEN DO NOTHING
             WHEN MATCHED THEN UPDATE SET {} WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({})",
            qualify_with(&set, log, "t"),
            model::names(log, "s."),
        )
    }

    /// Two writes to one log in one statement.
    fn write_twice(&mut self, log: Log) -> String {
        let (columns, some, set, insert) = (model::names(log, ""), self.some(), self.set(log), self.insert(log));
        match self.rng.below(2) {
            0 => format!("WITH i AS ({insert} RETURNING id) UPDATE {} SET {set} WHERE {some}", log.table()),
            _ => format!("WITH i AS ({insert} RETURNING id), j AS ({}) SELECT count(*) FROM i", {
                let more = self.tuples(log, 2);
                format!("INSERT INTO {} ({columns}) VALUES {more} RETURNING id", log.table())
            }),
        }
    }

    /// Statements that name a leaf, not the log.
    fn leaf(&mut self) -> String {
        let log = Log::Partitioned;
        let (columns, some) = (model::names(log, ""), self.some());
        let leaf = self.rng.pick(&["public.calls_2026_02", "public.calls_2026_03", "public.calls_2026_03_a", "public.calls_rest"]);
        match self.rng.below(4) {
            0 => format!("UPDATE {leaf} SET spend = spend * 2, status = 500 WHERE {some}"),
            1 => format!(
                "WITH d AS (DELETE FROM {leaf} WHERE {some} RETURNING *) INSERT INTO oracle.kept_calls ({columns}) SELECT {columns} FROM d"
            ),
            2 => format!("UPDATE {leaf} SET note = 'x' WHERE {some}"),
            _ => {
                let id = self.id();
                let mut row = model::row(log, &mut self.rng, id);
                row[1] = Some("2026-02-14 12:00:00.5+00".to_owned());
                format!("INSERT INTO public.calls_2026_02 ({columns}) VALUES {}", model::tuple(log, &row))
            }
        }
    }

    fn truncate(&mut self, log: Log) -> String {
        let (columns, table, kept) = (model::names(log, ""), log.table(), log.kept());
        let part = match log {
            Log::Partitioned => self.rng.pick(&["public.calls", "public.calls_2026_02", "public.calls_rest", "public.calls_2026_03_b"]),
            _ => table,
        };
        match log {
            Log::Gateway => format!("TRUNCATE {table}"),
            _ => format!(
                "LOCK TABLE {part} IN ACCESS EXCLUSIVE MODE; INSERT INTO {kept} ({columns}) SELECT {columns} FROM {part}; TRUNCATE {part}"
            ),
        }
    }
}

/// No connection any more, or 57P01 to 57P03: ended by an administrator, by a crash, or the server is not up yet.
fn is_lost(error: &postgres::Error) -> bool {
    error.as_db_error().is_none_or(|e| e.code().code().starts_with("57P0"))
}

/// In `ON CONFLICT DO UPDATE` and MERGE a bare column on the right side is ambiguous.
fn qualify(set: &str, log: Log) -> String {
    qualify_with(set, log, "old")
}

fn qualify_with(set: &str, log: Log, alias: &str) -> String {
    let parts: Vec<String> = set
        .split(", ")
        .map(|part| match part.split_once(" = ") {
            Some((name, value)) if log.columns().iter().any(|(n, _)| value == *n || value.starts_with(&format!("{n} + "))) => {
                format!("{name} = {alias}.{value}")
            }
            _ => part.to_owned(),
        })
        .collect();
    parts.join(", ")
}
