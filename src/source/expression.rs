//! SQL expressions over a log row: checked as PostgreSQL checks an index expression, kept deparsed, evaluated without SPI.

use crate::error::{Error, Result, is_of_the_server};
use crate::rights::LocalSettings;
use crate::source::column::columns;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// A transformed expression; the tree lives in the memory context that was current when it was made.
pub struct Parsed {
    pub node: *mut pg_sys::Node,
    pub type_oid: pg_sys::Oid,
}

/// An expression as it is kept: deparsed, with the columns it reads.
pub struct Checked {
    pub sql: String,
    /// What it reads, by name, with its number.
    pub columns: BTreeMap<String, i16>,
    /// The types of those, in the same order.
    pub types: Vec<String>,
}

const HINT: &str = "Use one SQL expression over the columns of the row, with IMMUTABLE functions only (qualified unless built in), \
no aggregate, window function, set-returning function, subquery, system column or whole-row reference.";

fn refused(field: &str, code: PgSqlErrorCode, why: impl Into<String>) -> Error {
    Error::new(code, format!("expression for \"{field}\" cannot be used")).detail(why).hint(HINT)
}

/// Checks and deparses. `old_names` (name -> number) makes columns that were renamed since known by the names the text has.
pub fn check(relation: pg_sys::Relation, field: &str, sql: &str, old_names: &BTreeMap<String, i16>) -> Result<Checked> {
    let attempt = std::panic::AssertUnwindSafe(|| {
        // A function of an expression that was planned before may have changed the search_path, and with it what names mean.
        let _settings = LocalSettings::pinned();
        let parsed = parse(relation, field, sql, old_names)?;
        // SAFETY: `parsed.node` is a valid tree over `relation`, which the caller holds open.
        unsafe {
            if pg_sys::contain_mutable_functions(parsed.node) {
                return Err(not_immutable(field));
            }
            // All that is written down, before anything is evaluated.
            let checked = described(relation, field, parsed.node)?;
            if pg_sys::contain_mutable_functions(pg_sys::expression_planner(pg_sys::copyObjectImpl(parsed.node.cast()).cast()).cast()) {
                return Err(not_immutable(field));
            }
            // What evaluating it will ask for, the right to call its functions among it: the owner's, as whom the caller acts.
            let estate = pg_sys::CreateExecutorState();
            pg_sys::ExecPrepareExpr(pg_sys::copyObjectImpl(parsed.node.cast()).cast(), estate);
            pg_sys::FreeExecutorState(estate);
            Ok(checked)
        }
    });
    // What PostgreSQL itself refuses (syntax, unknown column, aggregate ..) gets our hint. The caller must raise the error and run no query
    // before: there is no subtransaction that would put the state right.
    PgTryBuilder::new(attempt)
        .catch_others(|cause| match cause {
            CaughtError::PostgresError(report) if !is_of_the_server(report.sql_error_code()) => {
                Err(refused(field, report.sql_error_code(), report.message()))
            }
            other => other.rethrow(),
        })
        .execute()
}

fn not_immutable(field: &str) -> Error {
    refused(field, PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION, "functions in it must be IMMUTABLE")
}

/// An expression as it is kept.
unsafe fn described(relation: pg_sys::Relation, field: &str, node: *mut pg_sys::Node) -> Result<Checked> {
    // SAFETY: `node` is a valid tree over `relation`, which is open.
    unsafe {
        let columns = columns_of(relation, field, node)?;
        let name = (*(*relation).rd_rel).relname.data.as_ptr();
        let text = pg_sys::deparse_expression(node, pg_sys::deparse_context_for(name, (*relation).rd_id), false, false);
        let sql = CStr::from_ptr(text).to_string_lossy().into_owned();
        let known = crate::source::column::columns(relation);
        let type_of = |name: &String| known.iter().find(|column| column.name == *name).map(|column| column.type_name());
        let types = columns.keys().filter_map(type_of).collect();
        Ok(Checked { sql, columns, types })
    }
}

/// Parses and transforms. Errors of PostgreSQL's parser are raised, not returned.
pub fn parse(relation: pg_sys::Relation, field: &str, sql: &str, old_names: &BTreeMap<String, i16>) -> Result<Parsed> {
    let text = CString::new(sql).map_err(|_| refused(field, PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "it holds a NUL byte"))?;
    // SAFETY: the parser gets a NUL-terminated text; every node that is dereferenced has been checked for its tag.
    unsafe {
        let raw = single_expression(pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR))
            .ok_or_else(|| refused(field, PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "it is not a single expression"))?;
        let pstate = pg_sys::make_parsestate(std::ptr::null_mut());
        let alias = alias_with(relation, old_names);
        let item = pg_sys::addRangeTableEntryForRelation(pstate, relation, pg_sys::AccessShareLock as i32, alias, false, true);
        pg_sys::addNSItemToQuery(pstate, item, false, true, true);
        let mut node = pg_sys::transformExpr(pstate, raw, pg_sys::ParseExprKind::EXPR_KIND_INDEX_EXPRESSION);
        if pg_sys::exprType(node) == pg_sys::UNKNOWNOID {
            node = pg_sys::coerce_type(
                pstate,
                node,
                pg_sys::UNKNOWNOID,
                pg_sys::TEXTOID,
                -1,
                pg_sys::CoercionContext::COERCION_IMPLICIT,
                pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
                -1,
            );
        }
        pg_sys::assign_expr_collations(pstate, node);
        let type_oid = pg_sys::exprType(node);
        pg_sys::free_parsestate(pstate);
        Ok(Parsed { node, type_oid })
    }
}

/// The one expression of a parsed `SELECT expression`, None where there is anything else to it.
unsafe fn single_expression(statements: *mut pg_sys::List) -> Option<*mut pg_sys::Node> {
    // SAFETY: `statements` comes from raw_parser: a List of RawStmt.
    unsafe {
        if length(statements) != 1 {
            return None;
        }
        let statement = (*pg_sys::list_nth(statements, 0).cast::<pg_sys::RawStmt>()).stmt;
        if statement.is_null() || (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let clauses: [*mut pg_sys::List; 7] = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let nodes = [select.whereClause, select.havingClause, select.limitOffset, select.limitCount];
        if clauses.iter().any(|clause| !clause.is_null())
            || nodes.iter().any(|node| !node.is_null())
            || !select.intoClause.is_null()
            || !select.withClause.is_null()
            || select.op != pg_sys::SetOperation::SETOP_NONE
            || length(select.targetList) != 1
        {
            return None;
        }
        let target = &*pg_sys::list_nth(select.targetList, 0).cast::<pg_sys::ResTarget>();
        (target.name.is_null() && !target.val.is_null() && !is_star(target.val)).then_some(target.val)
    }
}

/// A bare `*`: PostgreSQL expands it in a target list before it transforms expressions, which take every column reference to begin with
/// a name.
unsafe fn is_star(node: *const pg_sys::Node) -> bool {
    // SAFETY: `node` comes from the raw parser; the tag is looked at before the cast.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return false;
        }
        let fields = (*node.cast::<pg_sys::ColumnRef>()).fields;
        length(fields) > 0 && (*pg_sys::list_nth(fields, 0).cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_A_Star
    }
}

/// An alias that gives renamed columns the names the text knows; null where none was renamed.
unsafe fn alias_with(relation: pg_sys::Relation, old_names: &BTreeMap<String, i16>) -> *mut pg_sys::Alias {
    // SAFETY: `relation` is open; its tuple descriptor and name are valid while it is.
    unsafe {
        let current = columns(relation);
        if old_names.keys().all(|name| current.iter().any(|column| column.name == *name)) {
            return std::ptr::null_mut();
        }
        let mut names: *mut pg_sys::List = std::ptr::null_mut();
        for column in current {
            let name = old_names.iter().find(|(_, old)| **old == column.number).map_or(column.name, |(old, _)| old.clone());
            let name = CString::new(name).unwrap_or_default();
            names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())).cast());
        }
        pg_sys::makeAlias((*(*relation).rd_rel).relname.data.as_ptr(), names)
    }
}

/// The columns an expression reads; refuses system columns and whole-row references.
unsafe fn columns_of(relation: pg_sys::Relation, field: &str, node: *mut pg_sys::Node) -> Result<BTreeMap<String, i16>> {
    // SAFETY: `node` is a valid tree whose only range-table entry is `relation`.
    unsafe {
        let mut members: *mut pg_sys::Bitmapset = std::ptr::null_mut();
        pg_sys::pull_varattnos(node, 1, &mut members);
        let current = columns(relation);
        let mut read = BTreeMap::new();
        let mut member = -1;
        loop {
            member = pg_sys::bms_next_member(members, member);
            if member < 0 {
                return Ok(read);
            }
            let number = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
            match current.iter().find(|column| i32::from(column.number) == number) {
                Some(column) => read.insert(column.name.clone(), column.number),
                None if number == 0 => {
                    return Err(refused(field, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "it holds a whole-row reference"));
                }
                None => return Err(refused(field, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "it reads a system column")),
            };
        }
    }
}

unsafe fn length(list: *const pg_sys::List) -> i32 {
    // SAFETY: null is PostgreSQL's empty list; else the list is valid.
    if list.is_null() { 0 } else { unsafe { (*list).length } }
}
