//! Directories: who and what the ids of a log are. Read where they lie, in the host's own tables or in the shipped ones, in the caller's
//! snapshot; nothing is copied but what is forgotten otherwise.
//!
//! Every read of a host's table runs as the owner of that table. `lookup` answers questions by id, `attach` puts a table in place,
//! `remember` is its trigger.

pub mod attach;
pub mod lookup;
pub mod preset;
pub mod remember;

use crate::error::{Error, Result, is_of_the_server};
use crate::query::{self, See};
use crate::rights::HostTable;
use crate::source::mapping::Origin;
use llm_analytics_core::dimension;
use llm_analytics_core::directory::{Field, Kind};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use serde_json::Value;

/// How the fields of a kind are read from the host's table, in the order of [`Kind::fields`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns(pub Vec<(&'static str, Origin)>);

impl Columns {
    pub fn from_json(kind: Kind, columns: &Value) -> Result<Columns> {
        let broken = || Error::internal("llm.directory.columns is not a mapping");
        let columns = columns.as_object().ok_or_else(broken)?;
        let mut fields = Vec::with_capacity(columns.len());
        for field in kind.fields() {
            if let Some(origin) = columns.get(field.name) {
                fields.push((field.name, serde_json::from_value(origin.clone()).map_err(|_| broken())?));
            }
        }
        Ok(Columns(fields))
    }

    pub fn to_json(&self) -> Result<Value> {
        let mut columns = serde_json::Map::new();
        for (name, origin) in &self.0 {
            columns.insert((*name).into(), serde_json::to_value(origin).map_err(|error| Error::internal(error.to_string()))?);
        }
        Ok(Value::Object(columns))
    }

    fn origin(&self, field: &str) -> Option<&Origin> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, origin)| origin)
    }
}

/// Where one kind is read from.
pub struct Directory {
    pub kind: Kind,
    host: Option<Host>,
}

struct Host {
    relation: pg_sys::Oid,
    columns: Columns,
}

/// The host's table, locked against changes until the end of the transaction; its owner's rights hold while this lives.
struct Locked {
    from: String,
    types: Vec<(String, pg_sys::Oid)>,
    _table: HostTable,
}

impl Directory {
    pub fn maps(&self, field: &str) -> bool {
        self.sql(field).is_some()
    }

    /// The SQL of a field over a row, from a closed list of columns or deparsed and kept by us; None where the directory lacks it.
    fn sql(&self, field: &str) -> Option<String> {
        match &self.host {
            Some(host) => host.columns.origin(field).map(Origin::sql),
            None => self.kind.shipped_fields().find(|name| *name == field).map(str::to_string),
        }
    }

    /// The text of fields, NULL where a field is not mapped: for a SELECT list.
    fn select(&self, fields: &[&str]) -> String {
        let texts =
            fields.iter().map(|field| self.sql(field).map_or("NULL::pg_catalog.text".into(), |sql| format!("({sql})::pg_catalog.text")));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Calls `f` with the texts of each row whose fields have one of the wanted values, as [`texts`] reads them. With nothing wanted: all rows. In the
    /// active snapshot; the shipped tables with the rights of the extension's owner, who the caller must be.
    pub fn rows(&self, fields: &[&str], wanted: &[(&str, &[String])], mut f: impl FnMut(Vec<Option<String>>) -> Result<()>) -> Result<()> {
        if wanted.iter().any(|(field, values)| values.is_empty() || !self.maps(field)) {
            return Ok(());
        }
        let locked = match &self.host {
            Some(host) => match lock(host.relation)? {
                Some(locked) => Some(locked),
                None => return Ok(()),
            },
            None => None,
        };
        let from = locked.as_ref().map_or_else(|| format!("FROM ONLY {}", self.kind.shipped()), |locked| locked.from.clone());
        let (mut conditions, mut arguments) = (Vec::new(), Vec::new());
        // A long id is found by its clip only after it was read.
        let by_clip = wanted.iter().any(|(_, values)| values.iter().any(|value| dimension::is_clipped(value)));
        let wanted_fields = if by_clip { wanted } else { &[] };
        let selected: Vec<&str> = fields.iter().copied().chain(wanted_fields.iter().map(|(field, _)| *field)).collect();
        for (at, (field, values)) in wanted.iter().enumerate() {
            let (condition, values) = self.condition(field, at + 1, values, locked.as_ref());
            conditions.push(condition);
            arguments.push(values.into());
        }
        let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {} {from}{condition}", self.select(&selected));
        let mut read = || {
            query::each(&sql, &arguments, See::Active, |row| {
                let mut texts = texts(row, &selected);
                let found = texts.split_off(fields.len());
                let is_wanted =
                    found.iter().zip(wanted_fields).all(|(text, (_, values))| text.as_ref().is_some_and(|id| values.contains(id)));
                if is_wanted { f(texts) } else { Ok(()) }
            })
        };
        if locked.is_some() { self.without_content(read) } else { read() }
    }

    /// An error of the host's expressions may quote the row it failed on, which may be anybody's: only its SQLSTATE is passed on. What
    /// says nothing about rows is passed on as it is. Either way the statement fails.
    fn without_content(&self, read: impl FnOnce() -> Result<()>) -> Result<()> {
        let is_passed_on = |code| {
            let of_rights = [PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION];
            is_of_the_server(code) || of_rights.contains(&code)
        };
        PgTryBuilder::new(std::panic::AssertUnwindSafe(read))
            .catch_others(|cause| match cause {
                CaughtError::PostgresError(report) if !is_passed_on(report.sql_error_code()) => {
                    let name = self.kind.name();
                    Err(Error::new(report.sql_error_code(), format!("directory \"{name}\" cannot be read"))
                        .detail("Its mapping fails on a row of the host's table.")
                        .hint(format!(
                            "llm.directory has the mapping; detach_directory('{name}') and attach it with one that never fails."
                        )))
                }
                other => other.rethrow(),
            })
            .execute()
    }

    /// Evaluates every field of every row once, so that what the owner may not do, or what fails, shows at attach.
    fn probe(&self) -> Result<()> {
        let Some(locked) = self.host.as_ref().map(|host| lock(host.relation)).transpose()?.flatten() else { return Ok(()) };
        let fields: Vec<&str> = self.kind.fields().iter().map(|field| field.name).collect();
        let sql = format!("SELECT pg_catalog.max(pg_catalog.octet_length(pg_catalog.concat({}))) {}", self.select(&fields), locked.from);
        self.without_content(|| query::each(&sql, &[], See::New, |_| Ok(())))
    }

    /// `field = ANY ($n)` by the text of the field, so that an index of a text, uuid or integer column serves.
    fn condition(&self, field: &str, number: usize, values: &[String], locked: Option<&Locked>) -> (String, Vec<String>) {
        let sql = self.sql(field).unwrap_or_else(|| "NULL".into());
        let column = self.host.as_ref().and_then(|host| host.columns.origin(field)).and_then(|origin| match origin {
            Origin::Column { column, .. } => Some(column),
            Origin::Expression { .. } => None,
        });
        let type_oid = column.and_then(|column| locked?.types.iter().find(|(name, _)| name == column)).map(|(_, oid)| *oid);
        let kept = |keep: fn(&str) -> bool| values.iter().filter(|value| keep(value)).cloned().collect();
        match type_oid {
            Some(pg_sys::UUIDOID) => (format!("{sql} = ANY (${number}::pg_catalog.uuid[])"), kept(is_uuid)),
            Some(pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID) => {
                let is_number = |value: &str| value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
                (format!("{sql} = ANY (${number}::pg_catalog.int8[])"), kept(is_number))
            }
            _ => {
                let long = if values.iter().any(|value| dimension::is_clipped(value)) {
                    long_too(&format!("({sql})::pg_catalog.text"))
                } else {
                    String::new()
                };
                (format!("(({sql})::pg_catalog.text = ANY (${number}){long})"), values.to_vec())
            }
        }
    }
}

/// The texts of a row of some fields: '' is NULL, and ids are clipped as the log's are.
fn texts(row: &query::Row, fields: &[&str]) -> Vec<Option<String>> {
    let text = |(at, field): (i32, &&str)| {
        let text = row.get::<String>(at).filter(|text| !text.is_empty())?;
        Some(if Field::is_id(field) { dimension::bounded(&text).into_owned() } else { text })
    };
    (1..).zip(fields).map(text).collect()
}

/// For a condition on an id, where one that is wanted may be the clip of a longer one.
fn long_too(sql: &str) -> String {
    format!(" OR pg_catalog.octet_length({sql}) > {}", dimension::MAX_BYTES)
}

/// As `uuid` writes it: 8-4-4-4-12 lower-case hex digits.
fn is_uuid(text: &str) -> bool {
    let is_dash = |at: usize| [8, 13, 18, 23].contains(&at);
    text.len() == 36 && text.bytes().enumerate().all(|(at, b)| if is_dash(at) { b == b'-' } else { matches!(b, b'0'..=b'9' | b'a'..=b'f') })
}

/// Locks a host's table, looks at what it is, and becomes its owner; None where it is gone. Names come from the catalog, under the lock,
/// and are quoted.
fn lock(relation: pg_sys::Oid) -> Result<Option<Locked>> {
    let Some(table) = HostTable::find(relation)? else { return Ok(None) };
    let from = table.sql_from()?;
    let types = table.open().columns().into_iter().map(|column| (column.name, column.type_oid)).collect();
    Ok(Some(Locked { from, types, _table: table }))
}

/// All five, as the caller's snapshot has them.
pub struct Directories([Directory; 5]);

impl Directories {
    /// Runs with the extension owner's rights.
    pub fn load() -> Result<Directories> {
        Directories::seen(See::Active)
    }

    fn seen(see: See) -> Result<Directories> {
        let mut directories = Kind::ALL.map(|kind| Directory { kind, host: None });
        query::each(include_str!("../../sql/query/directories.sql"), &[], see, |row| {
            let kind = row.get::<String>(1).as_deref().and_then(Kind::parse);
            if let (Some(kind), Some(columns), Some(relation)) = (kind, row.get::<pgrx::JsonB>(2), row.get::<pg_sys::Oid>(3)) {
                directories[kind as usize].host = Some(Host { relation, columns: Columns::from_json(kind, &columns.0)? });
            }
            Ok(())
        })?;
        Ok(Directories(directories))
    }

    pub fn of(&self, kind: Kind) -> &Directory {
        &self.0[kind as usize]
    }
}
