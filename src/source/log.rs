//! Reading a log, or one table of its tree: what backfill, rebuild and verify see, and what a TRUNCATE, DETACH or ATTACH moves.

use crate::capture;
use crate::error::{Error, Result, raise_or};
use crate::pending::{self, RowMemory};
use crate::query::{self, See};
use crate::rights::{ActingAs, HostTable, class_row};
use crate::source::column::columns;
use crate::source::mapping::{Mapping, Origin};
use crate::source::others;
use crate::source::reading::Reading;
use llm_analytics_core::delta::{Deltas, Kind, Row};
use llm_analytics_core::dimension::{self, UNKNOWN_ORGANIZATION};
use pgrx::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CString;

/// Rows fetched at a time.
const FETCH: std::ffi::c_long = 1_000;

/// Which rows are read: half-open in created_at, of one organization or all.
pub struct Filter {
    pub from: i64,
    pub to: i64,
    pub organization: Option<String>,
}

pub const EVERYTHING: Filter = Filter { from: i64::MIN, to: i64::MAX, organization: None };

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_llm_read_log() -> &'static pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// `llm._read_log(source, relation, from, to, organization)`.
///
/// # Safety
/// Called by PostgreSQL as a set-returning function of that signature.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn llm_read_log(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the arguments are those of the declaration; the result is materialized in the executor's own store.
    unsafe {
        let source = pgrx::fcinfo::pg_getarg::<i32>(fcinfo, 0).unwrap_or_default();
        let relation = pgrx::fcinfo::pg_getarg::<pg_sys::Oid>(fcinfo, 1);
        let filter = Filter {
            from: pgrx::fcinfo::pg_getarg::<i64>(fcinfo, 2).unwrap_or(i64::MIN),
            to: pgrx::fcinfo::pg_getarg::<i64>(fcinfo, 3).unwrap_or(i64::MAX),
            organization: pgrx::fcinfo::pg_getarg::<String>(fcinfo, 4).map(|id| dimension::bounded(&id).into_owned()),
        };
        pg_sys::InitMaterializedSRF(fcinfo, 0);
        let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let deltas = raise_or(read(source, relation, &filter, Kind::Detail, 1));
        raise_or(pending::append(&deltas, (*result).setResult, (*result).setDesc));
        pg_sys::Datum::from(0)
    }
}

/// Takes all rows of one table out of `llm._pending` or into the kept ones, as seen by the active snapshot; not those that were there
/// when the log was attached without its history.
pub fn take(source: i32, relation: pg_sys::Oid, kind: Kind, sign: i64) -> Result<()> {
    let sql = "SELECT counts_from FROM llm.source WHERE id = $1";
    let from = {
        let _rights = ActingAs::extension_owner()?;
        query::one::<TimestampWithTimeZone>(sql, &[source.into()], See::Active)?
    };
    let filter = Filter { from: from.map_or(i64::MIN, pg_sys::TimestampTz::from), ..EVERYTHING };
    pending::insert(&read(source, Some(relation), &filter, kind, sign)?)
}

/// Where a source's rows are: its mapping, whose mapping that is, and the table to read.
fn find(source: i32, relation: Option<pg_sys::Oid>) -> Result<(Mapping, pg_sys::Oid, pg_sys::Oid)> {
    let _rights = ActingAs::extension_owner()?;
    let (mut columns, mut root) = (None, None);
    query::each(include_str!("../../sql/query/source_root.sql"), &[source.into()], See::Active, |row| {
        (columns, root) = (row.get::<pgrx::JsonB>(1), row.get::<pg_sys::Oid>(2));
        Ok(())
    })?;
    let columns = columns.ok_or_else(|| Error::internal(format!("request log source {source} is unknown")))?;
    let detached = || {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("request log source {source} is not attached"))
            .hint("Attach the log again with llm.attach_log().")
    };
    let relation = relation.or(root).ok_or_else(detached)?;
    let owner = class_row(root.unwrap_or(relation)).ok_or_else(detached)?.owner;
    Ok((Mapping::from_json(&columns.0)?, owner, relation))
}

/// Whether the newest rows of a source's log are found without reading all of it: by an index that begins with created_at, or because the
/// log is partitioned by it.
pub fn is_ordered(source: i32) -> Result<bool> {
    let (mapping, _, relation) = find(source, None)?;
    let Origin::Column { column, .. } = mapping.created_at()? else { return Ok(false) };
    let _rights = ActingAs::extension_owner()?;
    let sql = include_str!("../../sql/query/log_ordered.sql");
    Ok(query::one::<bool>(sql, &[relation.into(), column.clone().into()], See::Active)?.unwrap_or(false))
}

/// A table to read, or a tree of them.
enum Part {
    /// It all belongs to the log's owner.
    Own(pg_sys::Oid),
    /// A partition of another role's.
    Other(pg_sys::Oid),
}

/// The tables to read for all rows of a table or tree: all of it at once where it belongs to the log's owner, else leaf by leaf. All of
/// them are locked afterwards.
fn parts(owner: pg_sys::Oid, relation: pg_sys::Oid) -> Result<Vec<Part>> {
    let mut leaves = Vec::new();
    let mut is_own = true;
    let _rights = ActingAs::extension_owner()?;
    query::each("SELECT t.relation, t.is_leaf FROM llm._tree($1) t", &[relation.into()], See::Active, |row| {
        let Some((table, is_leaf)) = row.get::<pg_sys::Oid>(1).zip(row.get::<bool>(2)) else { return Ok(()) };
        let Some(class) = class_row(table) else { return Ok(()) };
        is_own &= class.owner == owner;
        if is_leaf {
            leaves.push(if class.owner == owner { Part::Own(table) } else { Part::Other(table) });
        }
        Ok(())
    })?;
    Ok(if is_own { vec![Part::Own(relation)] } else { leaves })
}

/// Whether a log that is being attached has no row at all.
pub fn is_empty(relation: pg_sys::Oid, mapping: &Mapping) -> Result<bool> {
    let sql = |_: &str, from: &str| format!("SELECT EXISTS (SELECT {from})");
    let mut is_there = false;
    let found = probe::<bool>(owner_of(relation)?, relation, mapping, sql, &[], |_, _| is_there = true)?;
    Ok(!is_there && !found.contains(&true))
}

fn owner_of(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    class_row(relation).map(|class| class.owner).ok_or_else(|| Error::internal("no such table"))
}

/// The name of a source's log, if that has rows of an organization; a long id is given as its clip.
pub fn has_organization(source: i32, organization: &str) -> Result<Option<String>> {
    let (mapping, owner, relation) = find(source, None)?;
    let Some((_, origin)) = mapping.0.iter().find(|(known, _)| known.name == "organization_id") else { return Ok(None) };
    let named = format!("nullif(({})::text, '')", origin.sql());
    let exists = |_: &str, from: &str| format!("SELECT EXISTS (SELECT {from} WHERE coalesce({named}, $2) = $1)");
    let mut is_there = false;
    let arguments = [organization.into(), UNKNOWN_ORGANIZATION.into()];
    let mut found =
        probe::<bool>(owner, relation, &mapping, exists, &arguments, |_, of| is_there |= of == organization)?.contains(&true) || is_there;
    if !found && dimension::is_clipped(organization) {
        let long = format!("{named}) > {}", dimension::MAX_BYTES);
        let names =
            |_: &str, from: &str| format!("SELECT pg_catalog.array_agg(DISTINCT {named}) {from} WHERE pg_catalog.octet_length({long}");
        let names = probe::<Vec<String>>(owner, relation, &mapping, names, &[], |_, _| {})?;
        found = names.iter().flatten().any(|name| dimension::bounded(name) == organization);
    }
    if found { query::one("SELECT llm._qualified($1)", &[relation.into()], See::Active) } else { Ok(None) }
}

/// Whether a source's log has rows in a range.
pub fn has_rows(source: i32, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<bool> {
    let (mapping, owner, relation) = find(source, None)?;
    let sql = |at: &str, from: &str| format!("SELECT EXISTS (SELECT {from} WHERE {at} >= $1 AND {at} < $2)");
    let range = pg_sys::TimestampTz::from(from)..pg_sys::TimestampTz::from(to);
    let mut is_there = false;
    let found = probe::<bool>(owner, relation, &mapping, sql, &[from.into(), to.into()], |at, _| is_there |= range.contains(&at))?;
    Ok(is_there || found.contains(&true))
}

/// The newest created_at of a log that is being attached, NULL where there is none.
pub fn newest(relation: pg_sys::Oid, mapping: &Mapping) -> Result<Option<TimestampWithTimeZone>> {
    let sql = |at: &str, from: &str| format!("SELECT max({at})::timestamptz {from} WHERE {at} < 'infinity'");
    let mut scanned = None;
    let mut found = probe(owner_of(relation)?, relation, mapping, sql, &[], |at, _| scanned = scanned.max(Some(at)))?;
    found.extend(scanned.and_then(|at| TimestampWithTimeZone::try_from(at).ok()));
    Ok(latest(found))
}

/// The created_at of the `rows`-th newest row below a bound; None where fewer are left. Of a tree that is read leaf by leaf it is the
/// latest of those of the leaves, so that no leaf has more rows above it.
pub fn nth_newest(source: i32, below: TimestampWithTimeZone, rows: i64) -> Result<Option<TimestampWithTimeZone>> {
    let (mapping, owner, relation) = find(source, None)?;
    // The cast stays outside: the index has the order of the column, and ORDER BY would mean the cast.
    let sql = |at: &str, from: &str| {
        let newest = format!("SELECT {at} AS at {from} WHERE {at} < $1 AND {at} > '-infinity' ORDER BY {at} DESC OFFSET $2 LIMIT 1");
        format!("SELECT n.at::timestamptz FROM ({newest}) n")
    };
    // Of the leaves that are scanned together, the newest rows + 1.
    let (bound, most) = (pg_sys::TimestampTz::from(below), usize::try_from(rows).unwrap_or(usize::MAX));
    let mut kept = BinaryHeap::new();
    let mut found = probe(owner, relation, &mapping, sql, &[below.into(), rows.into()], |at, _| {
        if at < bound {
            kept.push(Reverse(at));
            if kept.len() > most.saturating_add(1) {
                kept.pop();
            }
        }
    })?;
    if kept.len() > most {
        found.extend(kept.peek().and_then(|Reverse(at)| TimestampWithTimeZone::try_from(*at).ok()));
    }
    Ok(latest(found))
}

fn latest(instants: Vec<TimestampWithTimeZone>) -> Option<TimestampWithTimeZone> {
    instants.into_iter().max_by_key(|at| pg_sys::TimestampTz::from(*at))
}

/// One value from each part of the log that belongs to its owner, read with the owner's rights; NULLs are left out. `sql` gets created_at,
/// as its index has it, and the FROM clause. The time zone is UTC, so an instant compares with a timestamp or a date as their rows are
/// read. `scan` gets created_at and the organization of each row of the other parts. As seen by the active snapshot.
fn probe<T: FromDatum + IntoDatum>(
    owner: pg_sys::Oid,
    relation: pg_sys::Oid,
    mapping: &Mapping,
    sql: impl Fn(&str, &str) -> String,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
    mut scan: impl FnMut(i64, &str),
) -> Result<Vec<T>> {
    let at = mapping.created_at()?.sql();
    let mut found = Vec::new();
    for part in parts(owner, relation)? {
        match part {
            Part::Own(table) => {
                let host = HostTable::enter(table)?;
                found.extend(query::one::<T>(&sql(&at, &host.sql_from()?), arguments, See::Active)?);
            }
            Part::Other(table) => others::rows(table, owner, mapping, |(created_at, row, _)| {
                scan(created_at, &row.organization);
                Ok(())
            })?,
        }
    }
    Ok(found)
}

/// Reads and adds up rows of a log, or of one table of its tree, as seen by the active snapshot.
pub fn read(source: i32, relation: Option<pg_sys::Oid>, filter: &Filter, kind: Kind, sign: i64) -> Result<Deltas> {
    let (mapping, owner, relation) = find(source, relation)?;
    let mut deltas = Deltas::default();
    let wanted = |organization: &str| filter.organization.as_deref().is_none_or(|wanted| wanted == organization);
    for part in parts(owner, relation)? {
        let mut add = |read: (i64, Row<'_>, i64)| {
            if wanted(&read.1.organization) { capture::add(&mut deltas, source, Some(read), kind, sign) } else { Ok(()) }
        };
        match part {
            Part::Own(table) => read_part(table, &mapping, filter, add)?,
            Part::Other(table) => {
                others::rows(table, owner, &mapping, |read| if (filter.from..filter.to).contains(&read.0) { add(read) } else { Ok(()) })?
            }
        }
    }
    Ok(deltas)
}

/// Calls `add` with the rows of one table, or of a tree, that belongs to the log's owner.
fn read_part(part: pg_sys::Oid, mapping: &Mapping, filter: &Filter, mut add: impl FnMut((i64, Row<'_>, i64)) -> Result<()>) -> Result<()> {
    let host = HostTable::enter(part)?;
    let table = host.open();
    // SAFETY: the table is open while its rows are read; values are used before the memory of their row is reset; the snapshot is the
    // active one (read-only SPI), which the caller chose.
    unsafe {
        let reading = Reading::bind(table.relation, mapping)?;
        let query = query(&host, mapping)?;
        pg_sys::SPI_connect();
        let mut types = [pg_sys::TIMESTAMPTZOID; 2];
        if created_at_type(table.relation, mapping)? != pg_sys::TIMESTAMPTZOID {
            // timestamp and date hold UTC: the same microseconds.
            types = [pg_sys::TIMESTAMPOID; 2];
        }
        let mut bounds = [pg_sys::Datum::from(filter.from), pg_sys::Datum::from(filter.to)];
        let portal = pg_sys::SPI_cursor_open_with_args(
            std::ptr::null(),
            query.as_ptr(),
            2,
            types.as_mut_ptr(),
            bounds.as_mut_ptr(),
            std::ptr::null(),
            true,
            pg_sys::CURSOR_OPT_NO_SCROLL as i32,
        );
        loop {
            pg_sys::SPI_cursor_fetch(portal, true, FETCH);
            let table = pg_sys::SPI_tuptable;
            let count = pg_sys::SPI_processed as usize;
            if count == 0 {
                break;
            }
            let mut rows = RowMemory::new();
            for at in 0..count {
                rows.step();
                let tuple = *(*table).vals.add(at);
                let value = |column: usize| {
                    let mut is_null = false;
                    let datum = pg_sys::SPI_getbinval(tuple, (*table).tupdesc, column as i32 + 1, &mut is_null);
                    (!is_null).then_some(datum)
                };
                if let Some(read) = reading.row(value) {
                    add(read)?;
                }
            }
            drop(rows);
            pg_sys::SPI_freetuptable(table);
            pgrx::check_for_interrupts!();
        }
        pg_sys::SPI_cursor_close(portal);
        pg_sys::SPI_finish();
        Ok(())
    }
}

/// `SELECT fields FROM relation WHERE created_at in range`; expressions are deparsed ones.
fn query(host: &HostTable, mapping: &Mapping) -> Result<CString> {
    let from = host.sql_from()?;
    let fields: Vec<String> = mapping.0.iter().map(|(_, origin)| origin.sql()).collect();
    let created_at = mapping.created_at()?.sql();
    let sql = format!("SELECT {} {from} WHERE {created_at} >= $1 AND {created_at} < $2", fields.join(", "));
    CString::new(sql).map_err(|_| Error::internal("NUL byte in a query"))
}

unsafe fn created_at_type(relation: pg_sys::Relation, mapping: &Mapping) -> Result<pg_sys::Oid> {
    use crate::source::expression::parse;
    // SAFETY: `relation` is open.
    unsafe {
        let declared = match mapping.created_at()? {
            Origin::Column { column, .. } => {
                columns(relation).into_iter().find(|known| known.name == *column).map_or(pg_sys::InvalidOid, |known| known.type_oid)
            }
            Origin::Expression { expression, .. } => parse(relation, "created_at", expression, &Default::default())?.type_oid,
        };
        Ok(pg_sys::getBaseType(declared))
    }
}
