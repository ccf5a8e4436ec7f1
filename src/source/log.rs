//! Reading a log, or one table of its tree: what backfill, rebuild and verify see, and what a TRUNCATE, DETACH or ATTACH moves.

use crate::capture;
use crate::error::{Error, Result, raise_or};
use crate::pending::{self, RowMemory};
use crate::query::{self, See};
use crate::rights::{ActingAs, HostTable, class_row};
use crate::source::column::columns;
use crate::source::mapping::{Mapping, Origin};
use crate::source::reading::Reading;
use llm_analytics_core::delta::{Deltas, Kind, Row};
use llm_analytics_core::dimension::{self, UNKNOWN_ORGANIZATION};
use pgrx::prelude::*;
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

/// Where a source's rows are: its mapping, and the table to read.
fn find(source: i32, relation: Option<pg_sys::Oid>) -> Result<(Mapping, pg_sys::Oid)> {
    let _rights = ActingAs::extension_owner()?;
    let (mut columns, mut root) = (None, None);
    query::each(include_str!("../../sql/query/source_root.sql"), &[source.into()], See::Active, |row| {
        (columns, root) = (row.get::<pgrx::JsonB>(1), row.get::<pg_sys::Oid>(2));
        Ok(())
    })?;
    let columns = columns.ok_or_else(|| Error::internal(format!("request log source {source} is unknown")))?;
    let relation = relation.or(root).ok_or_else(|| {
        Error::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("request log source {source} is not attached"))
            .hint("Attach the log again with llm.attach_log().")
    })?;
    Ok((Mapping::from_json(&columns.0)?, relation))
}

/// Whether the newest rows of a source's log are found without reading all of it: by an index that begins with created_at, or because the
/// log is partitioned by it.
pub fn is_ordered(source: i32) -> Result<bool> {
    let (mapping, relation) = find(source, None)?;
    let Origin::Column { column, .. } = mapping.created_at()? else { return Ok(false) };
    let _rights = ActingAs::extension_owner()?;
    let sql = include_str!("../../sql/query/log_ordered.sql");
    Ok(query::one::<bool>(sql, &[relation.into(), column.clone().into()], See::Active)?.unwrap_or(false))
}

/// The tables to read for all rows of a table or tree, each as its own owner: the tree at once where all of it belongs to one role, else
/// leaf by leaf. All of them are locked afterwards.
fn parts(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let mut leaves = Vec::new();
    let mut owners: Vec<pg_sys::Oid> = Vec::new();
    {
        let _rights = ActingAs::extension_owner()?;
        query::each("SELECT t.relation, t.is_leaf FROM llm._tree($1) t", &[relation.into()], See::Active, |row| {
            let Some((table, is_leaf)) = row.get::<pg_sys::Oid>(1).zip(row.get::<bool>(2)) else { return Ok(()) };
            owners.extend(class_row(table).map(|class| class.owner));
            if is_leaf {
                leaves.push(table);
            }
            Ok(())
        })?;
    }
    owners.dedup();
    Ok(if owners.len() > 1 { leaves } else { vec![relation] })
}

/// Whether a table has no row at all, looked at with its owner's rights.
pub fn is_empty(relation: pg_sys::Oid, mapping: &Mapping) -> Result<bool> {
    let found = probe::<bool>(relation, mapping, |_, from| format!("SELECT EXISTS (SELECT {from})"), &[])?;
    Ok(!found.contains(&true))
}

/// The name of a source's log, if that has rows of an organization; a long id is given as its clip.
pub fn has_organization(source: i32, organization: &str) -> Result<Option<String>> {
    let (mapping, relation) = find(source, None)?;
    let Some((_, origin)) = mapping.0.iter().find(|(known, _)| known.name == "organization_id") else { return Ok(None) };
    let named = format!("nullif(({})::text, '')", origin.sql());
    let exists = |_: &str, from: &str| format!("SELECT EXISTS (SELECT {from} WHERE coalesce({named}, $2) = $1)");
    let mut found = probe::<bool>(relation, &mapping, exists, &[organization.into(), UNKNOWN_ORGANIZATION.into()])?.contains(&true);
    if !found && dimension::is_clipped(organization) {
        let long = format!("{named}) > {}", dimension::MAX_BYTES);
        let names =
            |_: &str, from: &str| format!("SELECT pg_catalog.array_agg(DISTINCT {named}) {from} WHERE pg_catalog.octet_length({long}");
        let names = probe::<Vec<String>>(relation, &mapping, names, &[])?;
        found = names.iter().flatten().any(|name| dimension::bounded(name) == organization);
    }
    if found { query::one("SELECT llm._qualified($1)", &[relation.into()], See::Active) } else { Ok(None) }
}

/// Whether a source's log has rows in a range.
pub fn has_rows(source: i32, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<bool> {
    let (mapping, relation) = find(source, None)?;
    let sql = |at: &str, from: &str| format!("SELECT EXISTS (SELECT {from} WHERE {at} >= $1 AND {at} < $2)");
    Ok(probe::<bool>(relation, &mapping, sql, &[from.into(), to.into()])?.contains(&true))
}

/// The newest created_at, NULL where there is none.
pub fn newest(relation: pg_sys::Oid, mapping: &Mapping) -> Result<Option<TimestampWithTimeZone>> {
    let sql = |at: &str, from: &str| format!("SELECT max({at})::timestamptz {from} WHERE {at} < 'infinity'");
    Ok(latest(probe(relation, mapping, sql, &[])?))
}

/// The created_at of the `rows`-th newest row below a bound; None where fewer are left. Of a tree that is read leaf by leaf it is the
/// latest of those of the leaves, so that no leaf has more rows above it.
pub fn nth_newest(source: i32, below: TimestampWithTimeZone, rows: i64) -> Result<Option<TimestampWithTimeZone>> {
    let (mapping, relation) = find(source, None)?;
    // The cast stays outside: the index has the order of the column, and ORDER BY would mean the cast.
    let sql = |at: &str, from: &str| {
        let newest = format!("SELECT {at} AS at {from} WHERE {at} < $1 AND {at} > '-infinity' ORDER BY {at} DESC OFFSET $2 LIMIT 1");
        format!("SELECT n.at::timestamptz FROM ({newest}) n")
    };
    Ok(latest(probe(relation, &mapping, sql, &[below.into(), rows.into()])?))
}

fn latest(instants: Vec<TimestampWithTimeZone>) -> Option<TimestampWithTimeZone> {
    instants.into_iter().max_by_key(|at| pg_sys::TimestampTz::from(*at))
}

/// One value from each part of the log, read with its owner's rights; NULLs are left out. `sql` gets created_at, as its index has it,
/// and the FROM clause. The time zone is UTC, so an instant compares with a timestamp or a date as their rows are read. As seen by the
/// active snapshot.
fn probe<T: FromDatum + IntoDatum>(
    relation: pg_sys::Oid,
    mapping: &Mapping,
    sql: impl Fn(&str, &str) -> String,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
) -> Result<Vec<T>> {
    let at = mapping.created_at()?.sql();
    let mut found = Vec::new();
    for part in parts(relation)? {
        let host = HostTable::enter(part)?;
        found.extend(query::one::<T>(&sql(&at, &host.sql_from()?), arguments, See::Active)?);
    }
    Ok(found)
}

/// Reads and adds up rows of a log, or of one table of its tree, as seen by the active snapshot.
pub fn read(source: i32, relation: Option<pg_sys::Oid>, filter: &Filter, kind: Kind, sign: i64) -> Result<Deltas> {
    let (mapping, relation) = find(source, relation)?;
    let mut deltas = Deltas::default();
    for part in parts(relation)? {
        read_part(part, &mapping, filter, |read| capture::add(&mut deltas, source, read, kind, sign))?;
    }
    Ok(deltas)
}

/// Calls `add` with the rows of one table or of a tree that belongs to one role.
fn read_part(
    part: pg_sys::Oid,
    mapping: &Mapping,
    filter: &Filter,
    mut add: impl FnMut(Option<(i64, Row<'_>, i64)>) -> Result<()>,
) -> Result<()> {
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
                let row = reading.row(value);
                let wanted = |organization: &str| filter.organization.as_deref().is_none_or(|wanted| wanted == organization);
                if row.as_ref().is_some_and(|(_, row, _)| wanted(&row.organization)) {
                    add(row)?;
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
