//! Attaching and detaching a log: all checks first, then source, triggers and leaves in one transaction.

use crate::error::{Error, Result};
use crate::query::{self, See};
use crate::rights::{self, ActingAs, HostTable, Snapshot};
use crate::source::column::Column;
use crate::source::mapping::{Mapping, Origin};
use crate::source::reading::Reading;
use crate::source::{expression, log, preset};
use llm_analytics_core::field;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the caller asked for, checked.
pub struct Options {
    pub on_delete: String,
    pub capture: String,
    pub backfill: bool,
}

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

/// `caller` is whose rights count.
pub fn attach(caller: pg_sys::Oid, relation: pg_sys::Oid, columns: Option<Value>, options: &Options) -> Result<Value> {
    let _rights = ActingAs::extension_owner()?;
    facts(caller, relation, true)?;
    lock(relation, pg_sys::ShareRowExclusiveLock)?;
    // Again under the lock: what was true before may have changed while we waited.
    let facts = facts(caller, relation, true)?;
    let (preset, spelled) = spell(&facts, columns)?;
    let mapping = resolve(relation, &facts, &spelled)?;
    let (is_empty, newest) = {
        // Under the lock, whatever the transaction's isolation level: a row that is not seen now is never counted.
        let _latest = Snapshot::latest();
        (log::is_empty(relation, &mapping)?, if options.backfill { None } else { log::newest(relation, &mapping)? })
    };
    warn_if_unmanageable(relation, &facts)?;
    let counted = is_empty || !options.backfill;
    let source = Spi::connect_mut(|client| {
        let arguments = [
            facts.schema.clone().into(),
            facts.name.clone().into(),
            JsonB(mapping.to_json()?).into(),
            preset.into(),
            options.on_delete.clone().into(),
            options.capture.clone().into(),
            counted.into(),
        ];
        client.update(include_str!("../../sql/query/attach_number.sql"), None, &[])?;
        let source = client.update(include_str!("../../sql/query/attach_source.sql"), None, &arguments)?.first().get::<i32>(1)?;
        let source = source.ok_or_else(|| Error::internal("no source"))?;
        client.update(include_str!("../../sql/query/attach_clean.sql"), None, &[relation.into()])?;
        client.update(include_str!("../../sql/query/attach_install.sql"), None, &[relation.into(), source.into()])?;
        client.update(
            include_str!("../../sql/query/attach_unseal.sql"),
            None,
            &[source.into(), relation.into(), options.backfill.into()],
        )?;
        if !options.backfill {
            client.update(include_str!("../../sql/query/attach_without_history.sql"), None, &[source.into(), newest.into()])?;
        }
        Ok::<_, Error>(source)
    })?;
    let read: serde_json::Map<String, Value> =
        mapping.0.iter().map(|(known, origin)| (known.name.to_string(), origin.sql().into())).collect();
    Ok(json!({
        "source": source,
        "relation": facts.qualified(),
        "preset": preset,
        "columns": read,
        "onDelete": options.on_delete,
        "capture": options.capture,
        "backfill": if is_empty { "not needed" } else if options.backfill { "pending" } else { "skipped" },
    }))
}

/// The partitions of a log made by `llm.create_request_log` are made with its owner's rights. Without them rows go to the default partition.
fn warn_if_unmanageable(relation: pg_sys::Oid, facts: &Facts) -> Result<()> {
    let sql = "SELECT true FROM llm.source s JOIN pg_catalog.pg_class c ON c.oid = $3
               WHERE s.relation_schema = $1 AND s.relation_name = $2 AND s.is_managed AND s.state <> 'dropped'
                 AND NOT pg_catalog.has_schema_privilege(c.relowner, c.relnamespace, 'CREATE')";
    let arguments = [facts.schema.clone().into(), facts.name.clone().into(), relation.into()];
    if query::one::<bool>(sql, &arguments, See::New)? == Some(true) {
        let name = facts.qualified();
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("the owner of {name} cannot make next month's partition"),
            "llm_analytics",
        )
        .set_detail("Partitions are made ahead of time with the rights of the log's owner. Without them rows go to the default partition.")
        .set_hint("GRANT CREATE ON SCHEMA .. TO the owner.")
        .report(PgLogLevel::WARNING);
    }
    Ok(())
}

/// The source of an attached log and the log's name; the caller owns it.
pub fn attached(caller: pg_sys::Oid, relation: pg_sys::Oid) -> Result<(i32, String)> {
    let facts = facts(caller, relation, false)?;
    let sql = "SELECT source FROM llm._trigger WHERE relation = $1 AND role = 'root'";
    let mut source = query::one::<i32>(sql, &[relation.into()], See::New)?;
    if let Some(named) = source {
        // Triggers that came with a restored table name a log that is another table.
        query::each(include_str!("../../sql/query/source_root.sql"), &[named.into()], See::New, |row| {
            source = source.filter(|_| row.get::<pg_sys::Oid>(2) == Some(relation));
            Ok(())
        })?;
    }
    let Some(source) = source else {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{} is not attached", facts.qualified()))
            .hint("llm.status lists the attached logs; of a partitioned log the root is attached."));
    };
    Ok((source, facts.qualified()))
}

pub fn detach(caller: pg_sys::Oid, relation: pg_sys::Oid) -> Result<()> {
    let _rights = ActingAs::extension_owner()?;
    attached(caller, relation)?;
    lock(relation, pg_sys::AccessExclusiveLock)?;
    // Again under the lock: somebody else may have detached it while we waited.
    let (source, _) = attached(caller, relation)?;
    Spi::run_with_args(include_str!("../../sql/query/detach.sql"), &[source.into()])?;
    Spi::run_with_args("UPDATE llm.source SET state = 'detached', complete_from = '-infinity' WHERE id = $1", &[source.into()])?;
    Ok(())
}

/// The relation's names and columns, or why it cannot be attached (`attaching`) or the caller may not.
fn facts(caller: pg_sys::Oid, relation: pg_sys::Oid, attaching: bool) -> Result<Facts> {
    Spi::connect_mut(|client| {
        let row = client.update(include_str!("../../sql/query/attach_facts.sql"), None, &[relation.into(), caller.into()])?.first();
        if row.is_empty() {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "the relation does not exist")
                .hint("Name a table, such as 'public.log'."));
        }
        let text = |name: &str| Ok::<_, Error>(row.get_by_name::<String, _>(name)?.unwrap_or_default());
        let is = |name: &str| Ok::<_, Error>(row.get_by_name::<bool, _>(name)?.unwrap_or(false));
        let facts = Facts {
            schema: text("schema_name")?,
            name: text("relation_name")?,
            columns: row.get_by_name::<Vec<String>, _>("column_names")?.unwrap_or_default(),
        };
        let name = facts.qualified();
        let wrong = |why: &str, hint: &str| Err(Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("{name} {why}")).hint(hint));
        let kind = text("kind")?;
        if (!attaching || kind == "r" || kind == "p") && !is("is_owner")? {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of {name}"))
                .hint("Only the owner of the log, or a superuser, may do this."));
        }
        if !attaching {
            return Ok(facts);
        }
        if kind != "r" && kind != "p" {
            return wrong(
                "is not a table",
                "Attach an ordinary or a partitioned table; views, materialized views and foreign tables have no triggers that see every row.",
            );
        }
        if is("is_temporary")? {
            return wrong("is a temporary table", "Attach a permanent table.");
        }
        if is("is_system")? {
            return wrong("is a system table or part of an extension", "Attach the gateway's own request log.");
        }
        if is("is_partition")? {
            return wrong(
                "is a partition",
                "Attach the root of the partition tree: rows that reach a partition through the root are captured there.",
            );
        }
        if is("has_inheritance")? {
            return wrong(
                "is part of table inheritance that is not partitioning",
                "Use declarative partitioning, or attach the tables one by one without inheritance.",
            );
        }
        if is("has_foreign_leaf")? {
            return wrong(
                "has a foreign table as a partition",
                "Detach the foreign partition first: rows written on its own server are not seen here.",
            );
        }
        if is("forces_row_security")? {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{name} forces row-level security on its owner"))
                .hint("ALTER TABLE .. NO FORCE ROW LEVEL SECURITY: the log is read with its owner's rights, and a policy would hide rows from the numbers."));
        }
        if let Some(others) = row.get_by_name::<String, _>("others")?
            && !is("is_superuser")?
        {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("partitions of {name} belong to other roles"))
                .detail(format!("They are {others}."))
                .hint(
                    "ALTER TABLE .. OWNER TO, or let a superuser attach it: then each partition is read with the rights of its own owner.",
                ));
        }
        if is("is_attached")? {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("{name} is already attached"))
                .hint("Call llm.detach_log() first to attach it with another mapping; the numbers stay."));
        }
        Ok(facts)
    })
}

/// Locks a table, and of a partition tree every table, waiting at most 2 seconds for each: attach must not queue the gateway behind a
/// long writer. By oid, because between the look-up of a name and the lock another table can get that name.
pub fn lock(relation: pg_sys::Oid, mode: u32) -> Result<()> {
    let name = name_of(relation)?;
    let attempt = std::panic::AssertUnwindSafe(|| {
        let _setting = rights::LocalSettings::new(&[(c"lock_timeout", c"2s")]);
        let mut locked: Vec<pg_sys::Oid> = vec![relation];
        // SAFETY: locks by oid, held to the end of the transaction.
        unsafe { pg_sys::LockRelationOid(relation, mode as i32) };
        // Whoever adds a partition locks the table above it, so what is locked gets no others.
        let mut next = 0;
        while next < locked.len() {
            let sql = "SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1 ORDER BY i.inhrelid";
            query::each(sql, &[locked[next].into()], See::New, |row| {
                locked.extend(row.get::<pg_sys::Oid>(1));
                Ok(())
            })?;
            next += 1;
            for below in &locked[next..] {
                // SAFETY: as above; to lock again what is locked costs nothing.
                unsafe { pg_sys::LockRelationOid(*below, mode as i32) };
            }
        }
        Ok(())
    });
    PgTryBuilder::new(attempt)
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |_| {
            Err(Error::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, format!("could not lock {name} within 2 seconds"))
                .hint("A long transaction writes to the table; nothing was changed. Try again when it has ended."))
        })
        .execute()
}

/// As messages name a relation.
fn name_of(relation: pg_sys::Oid) -> Result<String> {
    Ok(query::one::<String>("SELECT $1::pg_catalog.regclass::text", &[relation.into()], See::New)?.unwrap_or_default())
}

/// The SQL of each field: from the caller, else from the preset that knows the table.
fn spell(facts: &Facts, columns: Option<Value>) -> Result<(Option<&'static str>, preset::Spelled)> {
    let fields = || field::FIELDS.map(|known| known.name).join(", ");
    let required = || field::FIELDS.into_iter().filter(|known| known.required).map(|known| known.name).collect::<Vec<_>>().join(", ");
    let Some(columns) = columns else {
        return match preset::recognise(&facts.columns) {
            Some((name, spelled)) => Ok((Some(name), spelled)),
            None => Err(Error::argument(
                format!("{} is not a table of a known shape", facts.qualified()),
                format!("Pass columns => '{{\"created_at\": \"..\", ..}}'. Required: {}. Fields: {}.", required(), fields()),
            )),
        };
    };
    let Value::Object(columns) = columns else {
        return Err(Error::argument(
            "\"columns\" is not a JSON object",
            format!("Map fields to columns or expressions. Fields: {}.", fields()),
        ));
    };
    let mut spelled = Vec::with_capacity(columns.len());
    for (name, sql) in columns {
        if field::by_name(&name).is_none() {
            return Err(Error::argument(format!("unknown field \"{name}\""), format!("Fields: {}.", fields())));
        }
        let Value::String(sql) = sql else {
            return Err(Error::argument(
                format!("\"{name}\" is not mapped to a text"),
                "Map it to the name of a column or to an SQL expression.",
            ));
        };
        spelled.push((name, sql));
    }
    match field::FIELDS.into_iter().find(|known| known.required && !spelled.iter().any(|(name, _)| name == known.name)) {
        Some(missing) => Err(Error::argument(format!("field \"{}\" is not mapped", missing.name), format!("Required: {}.", required()))),
        None => Ok((None, spelled)),
    }
}

/// Names to columns, everything else to checked expressions; types are checked, and the owner's right to evaluate it all.
fn resolve(relation: pg_sys::Oid, facts: &Facts, spelled: &preset::Spelled) -> Result<Mapping> {
    let host = HostTable::enter(relation)?;
    let open = host.open();
    let columns = open.columns();
    let mut fields = Vec::with_capacity(spelled.len());
    for known in field::FIELDS {
        let Some((_, sql)) = spelled.iter().find(|(name, _)| name == known.name) else { continue };
        let origin = if facts.columns.contains(sql) {
            let found = columns.iter().find(|column| column.name == *sql);
            let (attnum, type_name) = found.map_or((0, String::new()), |column| (column.number, column.type_name()));
            Origin::Column { column: sql.clone(), attnum, type_name }
        } else {
            let checked = expression::check(open.relation, known.name, sql, &BTreeMap::new())?;
            refuse_virtual(&columns, known.name, &checked.columns)?;
            checked.into()
        };
        fields.push((known, origin));
    }
    let mapping = Mapping(fields);
    Reading::bind(open.relation, &mapping)?;
    Ok(mapping)
}

/// A trigger does not see virtual generated columns, in an expression either.
pub fn refuse_virtual(columns: &[Column], field: &str, read: &BTreeMap<String, i16>) -> Result<()> {
    match columns.iter().find(|column| column.is_virtual && read.contains_key(&column.name)) {
        Some(column) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("expression for \"{field}\" reads the virtual generated column \"{}\"", column.name),
        )
        .hint("Write out the expression that generates it, or make the column STORED.")),
        None => Ok(()),
    }
}

/// After a DDL statement on an attached log: follows renamed columns, refuses what breaks the mapping.
pub fn check_mapping(source: i32, relation: pg_sys::Oid) -> Result<()> {
    let columns = query::one::<JsonB>("SELECT columns FROM llm.source WHERE id = $1", &[source.into()], See::New)?;
    let columns = columns.ok_or_else(|| Error::internal("no source"))?.0;
    let before = Mapping::from_json(&columns)?;
    // Before anything can fail: a failure leaves no state in which a query may run.
    let name = name_of(relation)?;
    let mapping = followed(&name, relation, &before)?;
    let forced = query::one::<bool>(
        "SELECT bool_or(c.relforcerowsecurity) FROM llm._tree($1::regclass) m JOIN pg_class c ON c.oid = m.relation",
        &[relation.into()],
        See::New,
    )?;
    if forced == Some(true) {
        return Err(broken(&name, "its rows", &Error::internal("row-level security would be forced on the owner")));
    }
    if mapping != before {
        Spi::run_with_args("UPDATE llm.source SET columns = $2 WHERE id = $1", &[source.into(), JsonB(mapping.to_json()?).into()])?;
    }
    let types = |mapping: &Mapping| mapping.0.iter().flat_map(|(_, origin)| origin.types().to_vec()).collect::<Vec<_>>();
    if types(&mapping) != types(&before) {
        // A rewrite fires no trigger: all of it is read again.
        Spi::run_with_args("UPDATE llm.source SET complete_from = 'infinity' WHERE id = $1", &[source.into()])?;
    }
    Ok(())
}

/// The mapping by the names the columns have now.
fn followed(name: &str, relation: pg_sys::Oid, before: &Mapping) -> Result<Mapping> {
    let host = HostTable::enter(relation)?;
    let open = host.open();
    let current = open.columns();
    let has = |name: &str| current.iter().any(|known| known.name == name);
    let mut fields = Vec::with_capacity(before.0.len());
    for (known, origin) in &before.0 {
        let followed = match origin {
            Origin::Column { column, attnum, .. } => {
                match current.iter().find(|known| known.name == *column || (!has(column) && known.number == *attnum)) {
                    Some(known) => Ok(Origin::Column { column: known.name.clone(), attnum: known.number, type_name: known.type_name() }),
                    None => Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("column \"{column}\" is gone"))),
                }
            }
            Origin::Expression { expression, columns, .. } => {
                expression::check(open.relation, known.name, expression, columns).map(Origin::from)
            }
        };
        fields.push((*known, followed.map_err(|error| broken(name, known.name, &error))?));
    }
    let mapping = Mapping(fields);
    Reading::bind(open.relation, &mapping).map_err(|error| broken(name, "its columns", &error))?;
    Ok(mapping)
}

/// The ALTER is refused, so that it never surfaces first as a failed INSERT of the gateway.
fn broken(name: &str, what: &str, cause: &Error) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the change would leave the attached request log {name} without {what}"),
    )
    .detail(cause.message().to_string())
    .hint(format!("SELECT llm.detach_log('{name}'), change the table, then SELECT llm.attach_log('{name}', ..): the numbers stay."))
}

/// Makes an ordinary partitioned table with the canonical columns, owned by the caller and made with the caller's rights, and attaches it.
pub fn create_request_log(caller: pg_sys::Oid, name: &str) -> Result<pg_sys::Oid> {
    let _rights = ActingAs::extension_owner()?;
    let oid = Spi::connect_mut(|client| {
        client.update("SELECT llm._create_request_log($1, $2)", None, &[name.into(), caller.into()])?.first().get::<pg_sys::Oid>(1)
    })?
    .ok_or_else(|| Error::internal("no table"))?;
    attach(caller, oid, None, &Options { on_delete: "keep".into(), capture: "statement".into(), backfill: true })?;
    let managed = "UPDATE llm.source s SET is_managed = true FROM llm._trigger t WHERE t.relation = $1 AND s.id = t.source";
    Spi::run_with_args(managed, &[oid.into()])?;
    Ok(oid)
}
