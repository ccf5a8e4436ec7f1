//! The one reading of a log row, used by capture, backfill, rebuild and verify alike, so that what is added is what is taken away.

use crate::error::{Error, Result};
use crate::numeric::{self, numeric_text};
use crate::source::column::{columns, same_bytes};
use crate::source::expression::{self, Parsed};
use crate::source::mapping::{Mapping, Origin};
use crate::varlena;
use llm_analytics_core::bucket::Micros;
use llm_analytics_core::delta::Row;
use llm_analytics_core::dimension::{self, UNKNOWN_ORGANIZATION};
use llm_analytics_core::field::{self, Field, Flag, Role};
use llm_analytics_core::measure;
use llm_analytics_core::money::Money;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CStr;

/// How a datum of a type is read.
#[derive(Clone, Copy)]
enum Form {
    Text,
    PaddedText,
    /// Any other type as a dimension: by its output function.
    Output(pg_sys::Oid),
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Bool,
    /// timestamptz, and timestamp read as UTC: both microseconds since 2000.
    Timestamp,
    Date,
}

/// Where a value comes from in one table of the log's tree.
pub enum Place {
    Attribute(Attribute),
    Expression(*mut pg_sys::Node),
}

/// A column, as it lies in a row.
pub struct Attribute {
    number: i16,
    by_value: bool,
    length: i16,
}

impl Attribute {
    /// Its value in a slot, None where it is NULL.
    ///
    /// # Safety
    /// The slot holds a row of the table, deformed as far as [`Reading::attributes`] says.
    pub unsafe fn of(&self, slot: *mut pg_sys::TupleTableSlot) -> Option<pg_sys::Datum> {
        let index = self.number as usize - 1;
        // SAFETY: as the caller promises.
        unsafe { (!*(*slot).tts_isnull.add(index)).then(|| *(*slot).tts_values.add(index)) }
    }
}

struct Input {
    field: Field,
    form: Form,
}

/// A mapping bound to one table.
pub struct Reading {
    inputs: Vec<Input>,
    pub places: Vec<Place>,
    maps_total: bool,
}

impl Reading {
    /// Binds by name: the tables of a partition tree may number their columns differently. Expression trees live in the current
    /// memory context. Raises PostgreSQL's own error where an expression does not parse.
    pub fn bind(relation: pg_sys::Relation, mapping: &Mapping) -> Result<Reading> {
        let mut inputs = Vec::with_capacity(mapping.0.len());
        let mut places = Vec::with_capacity(mapping.0.len());
        for (field, origin) in &mapping.0 {
            let (place, type_oid) = match origin {
                Origin::Column { column, .. } => column_place(relation, field, column)?,
                Origin::Expression { expression, .. } => {
                    let Parsed { node, type_oid } = expression::parse(relation, field.name, expression, &BTreeMap::new())?;
                    (Place::Expression(node), type_oid)
                }
            };
            inputs.push(Input { field: *field, form: form(field, type_oid)? });
            places.push(place);
        }
        let maps_total = mapping.0.iter().any(|(field, _)| field.name == "total_tokens");
        Ok(Reading { inputs, places, maps_total })
    }

    /// How many of a row's attributes, of `all`, have to be looked at: expressions may use any.
    pub fn attributes(&self, all: i32) -> i32 {
        let of = |place: &Place| match place {
            Place::Attribute(attribute) => i32::from(attribute.number),
            Place::Expression(_) => all,
        };
        self.places.iter().map(of).max().unwrap_or(all)
    }

    /// Whether any value needs functions to be called whose outcome could depend on settings, or which are the host's.
    pub fn needs_evaluation(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Expression(_)))
            || self.inputs.iter().any(|input| matches!(input.form, Form::Output(_)))
    }

    /// Whether two rows certainly read the same: all mapped values have the same bytes.
    ///
    /// # Safety
    /// As for [`Attribute::of`].
    pub unsafe fn is_same(&self, a: *mut pg_sys::TupleTableSlot, b: *mut pg_sys::TupleTableSlot) -> bool {
        self.places.iter().all(|place| match place {
            // SAFETY: as the caller promises; the type is the attribute's.
            Place::Attribute(attribute) => match unsafe { (attribute.of(a), attribute.of(b)) } {
                (Some(a), Some(b)) => unsafe { same_bytes(a, b, attribute.by_value, attribute.length) },
                (a, b) => a.is_none() && b.is_none(),
            },
            Place::Expression(_) => false,
        })
    }

    /// Reads one row. `value(i)` is the i-th mapped value, None where it is NULL. None: the row lies in no date range. Else when it was
    /// created, the row, and how many values were out of bounds and count as 0.
    ///
    /// # Safety
    /// Each value is a valid datum of the type that was bound, and outlives the row.
    pub unsafe fn row<'a>(&self, value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Option<(Micros, Row<'a>, i64)> {
        let mut row = Row { organization: UNKNOWN_ORGANIZATION.into(), ..Row::default() };
        let mut created_at = None;
        let mut skipped = 0;
        let (mut is_error, mut is_client_error) = (false, false);
        row.measures.counts[measure::REQUESTS] = 1;
        for (at, input) in self.inputs.iter().enumerate() {
            let Some(datum) = value(at) else { continue };
            // SAFETY: as the caller promises; the form was chosen by the type.
            unsafe {
                match input.field.role {
                    Role::CreatedAt => created_at = instant(input.form, datum),
                    Role::Organization => {
                        let text = text(input.form, datum);
                        if !text.is_empty() {
                            row.organization = bounded(text);
                        }
                    }
                    Role::Dimension(dimension) => row.dimensions[dimension as usize] = bounded(text(input.form, datum)),
                    Role::Tokens(at) => match whole_number(input.form, datum) {
                        Some(number) => row.measures.counts[at] = number.into(),
                        None => skipped += 1,
                    },
                    Role::Milliseconds(at) => match whole_number(input.form, datum) {
                        Some(number) => {
                            row.measures.counts[at] = number.into();
                            row.measures.counts[at + 1] = 1;
                        }
                        None => skipped += 1,
                    },
                    Role::Amount(at) => match money(input.form, datum) {
                        Some(amount) => row.measures.amounts[at] = amount,
                        None => skipped += 1,
                    },
                    Role::Flag(flag) => {
                        if datum.value() as u8 != 0 {
                            match flag {
                                Flag::Error => is_error = true,
                                Flag::ClientError => is_client_error = true,
                                Flag::Cached => row.measures.counts[measure::CACHE_HITS] = 1,
                                Flag::Streamed => row.measures.counts[measure::STREAMED] = 1,
                                Flag::Canceled => row.measures.counts[measure::CANCELED] = 1,
                            }
                        }
                    }
                }
            }
        }
        let counts = &mut row.measures.counts;
        counts[measure::CLIENT_ERRORS] = is_client_error.into();
        counts[measure::ERRORS] = (is_error && !is_client_error).into();
        if !self.maps_total {
            counts[measure::TOTAL_TOKENS] = counts[measure::INPUT_TOKENS] + counts[measure::OUTPUT_TOKENS];
        }
        created_at.map(|at| (at, row, skipped))
    }
}

fn column_place(relation: pg_sys::Relation, field: &Field, column: &str) -> Result<(Place, pg_sys::Oid)> {
    // SAFETY: the caller holds `relation` open.
    let found = unsafe { columns(relation) }.into_iter().find(|known| known.name == column).ok_or_else(|| {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("column \"{column}\" for \"{}\" does not exist", field.name))
            .hint("Map the field to a column of the table or to an SQL expression over the row.")
    })?;
    if found.is_virtual {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("column \"{column}\" for \"{}\" is a virtual generated column", field.name),
        )
        .hint("Triggers do not see its value: map the field to the expression that generates it, or make the column STORED."));
    }
    Ok((Place::Attribute(Attribute { number: found.number, by_value: found.by_value, length: found.length }), found.type_oid))
}

fn form(field: &Field, type_oid: pg_sys::Oid) -> Result<Form> {
    // SAFETY: a catalog lookup of an existing type.
    let base = unsafe { pg_sys::getBaseType(type_oid) };
    let form = match (field.role, base) {
        (Role::CreatedAt, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID) => Form::Timestamp,
        (Role::CreatedAt, pg_sys::DATEOID) => Form::Date,
        (Role::Organization | Role::Dimension(_), pg_sys::TEXTOID | pg_sys::VARCHAROID) => Form::Text,
        (Role::Organization | Role::Dimension(_), pg_sys::BPCHAROID) => Form::PaddedText,
        (Role::Organization | Role::Dimension(_), _) => {
            let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
            // SAFETY: as above; both out parameters are valid.
            unsafe { pg_sys::getTypeOutputInfo(base, &mut output, &mut is_varlena) };
            Form::Output(output)
        }
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::INT2OID) => Form::Int2,
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::INT4OID) => Form::Int4,
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::INT8OID) => Form::Int8,
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::NUMERICOID) => Form::Numeric,
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::FLOAT4OID) => Form::Float4,
        (Role::Tokens(_) | Role::Amount(_) | Role::Milliseconds(_), pg_sys::FLOAT8OID) => Form::Float8,
        (Role::Flag(_), pg_sys::BOOLOID) => Form::Bool,
        (role, _) => {
            let allowed = match role {
                Role::CreatedAt => "timestamptz, timestamp (read as UTC) or date",
                Role::Flag(_) => "boolean",
                _ => "smallint, integer, bigint, numeric, real or double precision",
            };
            // SAFETY: a catalog lookup; the text is palloc'd.
            let name = unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned();
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("\"{}\" cannot be read from type {name}", field.name),
            )
            .hint(format!("Allowed is {allowed}; an expression can cast.")));
        }
    };
    Ok(form)
}

/// The text of a dimension within its bounds.
fn bounded(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= dimension::MAX_BYTES { text } else { dimension::bounded(&text).into_owned().into() }
}

/// Microseconds since 2000 UTC; None for infinity and for what timestamptz cannot hold.
unsafe fn instant(form: Form, datum: pg_sys::Datum) -> Option<Micros> {
    let micros = match form {
        Form::Date => match datum.value() as i32 {
            i32::MIN | i32::MAX => return None,
            days => i64::from(days).checked_mul(llm_analytics_core::bucket::MICROS_PER_DAY)?,
        },
        _ => datum.value() as i64,
    };
    // The bounds of timestamptz: 4714 BC to 294276 AD (datatype/timestamp.h). Infinity lies outside.
    (-211_813_488_000_000_000..9_223_371_331_200_000_000).contains(&micros).then_some(micros)
}

unsafe fn text<'a>(form: Form, datum: pg_sys::Datum) -> Cow<'a, str> {
    // SAFETY: the datum is of the type the form was chosen for.
    unsafe {
        match form {
            Form::Text | Form::PaddedText => {
                let text = String::from_utf8_lossy(varlena::bytes(datum));
                if matches!(form, Form::PaddedText) { text.trim_end_matches(' ').to_string().into() } else { text }
            }
            Form::Output(function) => CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, datum)).to_string_lossy(),
            _ => Cow::Borrowed(""),
        }
    }
}

unsafe fn whole_number(form: Form, datum: pg_sys::Datum) -> Option<i64> {
    // A cast of a float to bigint rounds half to even.
    let float = |value: f64| if value.is_finite() && value.abs() < 1e16 { field::bounded(value.round_ties_even() as i64) } else { None };
    match form {
        Form::Int2 => Some(i64::from(datum.value() as i16)),
        Form::Int4 => Some(i64::from(datum.value() as i32)),
        Form::Int8 => field::bounded(datum.value() as i64),
        Form::Float4 => float(f64::from(f32::from_bits(datum.value() as u32))),
        Form::Float8 => float(f64::from_bits(datum.value() as u64)),
        // SAFETY: the form was chosen by the type.
        Form::Numeric => field::whole_number(&unsafe { numeric_text(datum) }),
        _ => None,
    }
}

unsafe fn money(form: Form, datum: pg_sys::Datum) -> Option<Money> {
    match form {
        Form::Int2 => Money::parse(&(datum.value() as i16).to_string()),
        Form::Int4 => Money::parse(&(datum.value() as i32).to_string()),
        Form::Int8 => Money::parse(&(datum.value() as i64).to_string()),
        Form::Float4 => Money::from_f32(f32::from_bits(datum.value() as u32)),
        Form::Float8 => Money::from_f64(f64::from_bits(datum.value() as u64)),
        // SAFETY: the form was chosen by the type.
        Form::Numeric => unsafe { numeric::money(datum) },
        _ => None,
    }
}
