//! Attaching and detaching a directory: all checks first, then the record and the triggers in one transaction.

use crate::directory::{Columns, Directories, Directory, Host, preset, remember};
use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rights::{ActingAs, HostTable, effective_user};
use crate::source::attach::{lock, refuse_virtual};
use crate::source::expression;
use crate::source::mapping::Origin;
use llm_analytics_core::directory::Kind;
use pgrx::JsonB;
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;
use serde_json::{Value, json};
use std::collections::BTreeMap;

struct Facts {
    schema: String,
    name: String,
    columns: Vec<String>,
}

impl Facts {
    fn qualified(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }
}

/// A kind as the caller spells it.
pub fn kind(text: &str) -> Result<Kind> {
    let shown: String = text.chars().take(60).collect();
    Kind::parse(text)
        .ok_or_else(|| Error::argument(format!("unknown kind of directory \"{shown}\""), format!("Allowed: {}.", Kind::ALLOWED)))
}

fn wrong_state(message: String, hint: &str) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(hint)
}

/// `caller` is whose rights count.
pub fn attach(caller: pg_sys::Oid, kind: Kind, relation: pg_sys::Oid, columns: Option<Value>) -> Result<Value> {
    let _rights = ActingAs::extension_owner()?;
    facts(caller, relation)?;
    refuse_attached(kind)?;
    lock(relation, pg_sys::ShareRowExclusiveLock)?;
    // Again under the lock: what was true before may have changed while we waited.
    let facts = facts(caller, relation)?;
    refuse_attached(kind)?;
    let (preset, spelled) = spell(kind, &facts, columns)?;
    let columns = resolve(kind, relation, &facts, &spelled)?;
    let read: serde_json::Map<String, Value> = columns.0.iter().map(|(name, origin)| (name.to_string(), origin.sql().into())).collect();
    let directory = Directory { kind, host: Some(Host { relation, columns }) };
    // Whether its owner may evaluate it all is found out here, not by the first reader.
    directory.probe()?;
    let Some(host) = &directory.host else { return Err(Error::internal("no host table")) };
    Spi::run_with_args(
        "INSERT INTO llm.directory (kind, relation_schema, relation_name, columns, preset) VALUES ($1, $2, $3, $4, $5)",
        &[kind.name().into(), facts.schema.clone().into(), facts.name.clone().into(), JsonB(host.columns.to_json()?).into(), preset.into()],
    )?;
    Spi::run_with_args("SELECT llm._install_directory_triggers($1, $2)", &[relation.into(), kind.name().into()])?;
    Ok(json!({"kind": kind.name(), "relation": facts.qualified(), "preset": preset, "columns": read}))
}

pub fn detach(caller: pg_sys::Oid, kind: Kind) -> Result<()> {
    let _rights = ActingAs::extension_owner()?;
    let attached = query::one::<bool>("SELECT true FROM llm.directory d WHERE d.kind = $1", &[kind.name().into()], See::New)?;
    if attached.is_none() {
        return Err(wrong_state(format!("no directory of kind \"{}\" is attached", kind.name()), "llm.directory lists the attached ones."));
    }
    let directories = Directories::seen(See::New)?;
    let directory = directories.of(kind);
    if let Some(host) = &directory.host {
        let row = own_facts(caller, host.relation)?;
        if !row.is_owner {
            return Err(not_owner(&row.facts));
        }
        lock(host.relation, pg_sys::AccessExclusiveLock)?;
        remember::everything(directory)?;
        Spi::run_with_args("SELECT llm._remove_directory_triggers($1, $2)", &[host.relation.into(), kind.name().into()])?;
    }
    Ok(Spi::run_with_args("DELETE FROM llm.directory d WHERE d.kind = $1", &[kind.name().into()])?)
}

fn refuse_attached(kind: Kind) -> Result<()> {
    let sql = "SELECT pg_catalog.format('%I.%I', d.relation_schema, d.relation_name) FROM llm.directory d WHERE d.kind = $1";
    match query::one::<String>(sql, &[kind.name().into()], See::New)? {
        None => Ok(()),
        Some(name) => Err(wrong_state(
            format!("a directory of kind \"{}\" is already attached", kind.name()),
            &format!("SELECT llm.detach_directory('{}') first: it is {name}.", kind.name()),
        )),
    }
}

struct Row {
    facts: Facts,
    is_owner: bool,
    /// Why it can be no directory, and what to do.
    wrong: Option<(&'static str, &'static str)>,
    forces_row_security: bool,
}

fn own_facts(caller: pg_sys::Oid, relation: pg_sys::Oid) -> Result<Row> {
    Spi::connect_mut(|client| {
        let row = client.update(include_str!("../../sql/query/directory_facts.sql"), None, &[relation.into(), caller.into()])?.first();
        if row.is_empty() {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "the relation does not exist")
                .hint("Name a table, such as 'public.project'."));
        }
        let text = |name: &str| Ok::<_, Error>(row.get_by_name::<String, _>(name)?.unwrap_or_default());
        let is = |name: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(name)?.unwrap_or(false));
        let wrong = if text("kind")? != "r" {
            Some((
                "is not an ordinary table",
                "Attach the host's own table; views, partitioned and foreign tables have no triggers that see every row.",
            ))
        } else if is("is_temporary")? {
            Some(("is a temporary table", "Attach a permanent table."))
        } else if is("is_system")? {
            Some(("is a system table or part of an extension", "Attach the host's own table."))
        } else if is("has_inheritance")? {
            Some(("is a partition or part of table inheritance", "Attach a table of its own."))
        } else {
            None
        };
        Ok(Row {
            facts: Facts {
                schema: text("schema_name")?,
                name: text("relation_name")?,
                columns: row.get_by_name::<Vec<String>, _>("column_names")?.unwrap_or_default(),
            },
            is_owner: is("is_owner")?,
            wrong,
            forces_row_security: is("forces_row_security")?,
        })
    })
}

fn not_owner(facts: &Facts) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of {}", facts.qualified()))
        .hint("The owner of the table, or a superuser, attaches and detaches it.")
}

/// The table's names and columns, or why it cannot be attached or the caller may not.
fn facts(caller: pg_sys::Oid, relation: pg_sys::Oid) -> Result<Facts> {
    let row = own_facts(caller, relation)?;
    if let Some((why, hint)) = row.wrong {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("{} {why}", row.facts.qualified())).hint(hint));
    }
    if !row.is_owner {
        return Err(not_owner(&row.facts));
    }
    if row.forces_row_security {
        return Err(wrong_state(
            format!("{} forces row-level security on its owner", row.facts.qualified()),
            "ALTER TABLE .. NO FORCE ROW LEVEL SECURITY: it is read with its owner's rights, and a policy would hide rows.",
        ));
    }
    Ok(row.facts)
}

/// The SQL of each field: from the caller, else from the preset that knows the table.
fn spell(kind: Kind, facts: &Facts, columns: Option<Value>) -> Result<(Option<&'static str>, preset::Spelled)> {
    let names = |required: bool| {
        let fields = kind.fields().iter().filter(|field| !required || field.required).map(|field| field.name);
        fields.collect::<Vec<_>>().join(", ")
    };
    let allowed = format!("Required: {}. Fields: {}.", names(true), names(false));
    let Some(columns) = columns else {
        return preset::recognise(kind, &facts.columns).map(|(name, spelled)| (Some(name), spelled)).ok_or_else(|| {
            Error::argument(
                format!("{} is not a table of a known shape for \"{}\"", facts.qualified(), kind.name()),
                format!("Pass columns => '{{\"id\": \"..\", ..}}'. {allowed}"),
            )
        });
    };
    let Value::Object(columns) = columns else { return Err(Error::argument("\"columns\" is not a JSON object", allowed)) };
    let mut spelled = Vec::with_capacity(columns.len());
    for (name, sql) in columns {
        if !kind.fields().iter().any(|field| field.name == name) {
            let shown: String = name.chars().take(60).collect();
            return Err(Error::argument(format!("unknown field \"{shown}\""), allowed));
        }
        let Value::String(sql) = sql else {
            return Err(Error::argument(
                format!("\"{name}\" is not mapped to a text"),
                "Map it to the name of a column or to an SQL expression.",
            ));
        };
        spelled.push((name, sql));
    }
    let has = |name: &str| spelled.iter().any(|(mapped, _)| mapped == name);
    if let Some(missing) = kind.fields().iter().find(|field| field.required && !has(field.name)) {
        return Err(Error::argument(format!("field \"{}\" is not mapped", missing.name), allowed));
    }
    if kind == Kind::User && has("organization_id") != has("role") {
        return Err(Error::argument("users are members by \"organization_id\" and \"role\" together", "Map both or neither."));
    }
    Ok((None, spelled))
}

/// Names to columns, everything else to checked expressions.
fn resolve(kind: Kind, relation: pg_sys::Oid, facts: &Facts, spelled: &preset::Spelled) -> Result<Columns> {
    let table = HostTable::enter(relation)?;
    let open = table.open();
    let columns = open.columns();
    let mut fields = Vec::with_capacity(spelled.len());
    for field in kind.fields() {
        let Some((_, sql)) = spelled.iter().find(|(name, _)| name == field.name) else { continue };
        let origin = if facts.columns.contains(sql) {
            let found = columns.iter().find(|column| column.name == *sql);
            let (attnum, type_name) = found.map_or((0, String::new()), |column| (column.number, column.type_name()));
            refuse_virtual(&columns, field.name, &BTreeMap::from([(sql.clone(), attnum)]))?;
            Origin::Column { column: sql.clone(), attnum, type_name }
        } else {
            let checked = expression::check(open.relation, field.name, sql, &BTreeMap::new())?;
            refuse_virtual(&columns, field.name, &checked.columns)?;
            checked.into()
        };
        fields.push((field.name, origin));
    }
    Ok(Columns(fields))
}

/// After a DDL statement on an attached directory: follows renamed columns, refuses what breaks the mapping.
pub fn check(kind: Kind, relation: pg_sys::Oid) -> Result<()> {
    let columns = query::one::<JsonB>("SELECT d.columns FROM llm.directory d WHERE d.kind = $1", &[kind.name().into()], See::New)?;
    let Some(columns) = columns else { return Ok(()) };
    let before = Columns::from_json(kind, &columns.0)?;
    if own_facts(effective_user(), relation)?.forces_row_security {
        return Err(broken(kind, "its rows", &Error::internal("row-level security would be forced on the owner")));
    }
    let columns = followed(kind, relation, &before)?;
    if columns != before {
        let arguments = [kind.name().into(), JsonB(columns.to_json()?).into()];
        Spi::run_with_args("UPDATE llm.directory d SET columns = $2 WHERE d.kind = $1", &arguments)?;
    }
    Ok(())
}

/// The mapping by the names the columns have now.
fn followed(kind: Kind, relation: pg_sys::Oid, before: &Columns) -> Result<Columns> {
    let table = HostTable::enter(relation)?;
    let open = table.open();
    let current = open.columns();
    let has = |name: &str| current.iter().any(|known| known.name == name);
    let mut fields = Vec::with_capacity(before.0.len());
    for (name, origin) in &before.0 {
        let followed = match origin {
            Origin::Column { column, attnum, .. } => {
                match current.iter().find(|known| known.name == *column || (!has(column) && known.number == *attnum)) {
                    Some(known) => Ok(Origin::Column { column: known.name.clone(), attnum: known.number, type_name: known.type_name() }),
                    None => Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("column \"{column}\" is gone"))),
                }
            }
            Origin::Expression { expression, columns, .. } => expression::check(open.relation, name, expression, columns).map(Origin::from),
        };
        fields.push((*name, followed.map_err(|error| broken(kind, name, &error))?));
    }
    Ok(Columns(fields))
}

/// The ALTER is refused, so that it never surfaces first as a failed write of the host.
fn broken(kind: Kind, what: &str, cause: &Error) -> Error {
    let name = kind.name();
    wrong_state(
        format!("the change would leave the attached directory \"{name}\" without {what}"),
        &format!("SELECT llm.detach_directory('{name}'), change the table, then SELECT llm.attach_directory('{name}', ..)."),
    )
    .detail(cause.message().to_string())
}
