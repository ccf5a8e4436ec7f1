//! `llm.measures`: all measures of a row as one value. The bytes are `core`'s; here they meet SQL.

use crate::error::{Error, Result, raise_or};
use crate::varlena;
use llm_analytics_core::delta::{Measures, Overflow};
use llm_analytics_core::measure::{AMOUNTS, COUNTS};
use llm_analytics_core::money::Money;
use llm_analytics_core::packed;
use pgrx::prelude::*;
use serde_json::{Map, Number, Value};
use std::ffi::{CStr, CString};
use std::str::FromStr;

/// # Safety
/// The bytes are copied to the current memory context.
pub unsafe fn datum(measures: &Measures, buffer: &mut Vec<u8>) -> Result<pg_sys::Datum> {
    buffer.clear();
    packed::pack(measures, buffer).ok_or(Overflow)?;
    // SAFETY: as the caller promises; a varlena with a header of four bytes, which PostgreSQL makes short where it forms a tuple.
    unsafe {
        let size = pg_sys::VARHDRSZ + buffer.len();
        let varlena = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        pgrx::varlena::set_varsize_4b(varlena, size as i32);
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), varlena.cast::<u8>().add(pg_sys::VARHDRSZ), buffer.len());
        Ok(pg_sys::Datum::from(varlena))
    }
}

/// # Safety
/// The datum is a value of the type.
pub unsafe fn from_datum(datum: pg_sys::Datum) -> Result<Measures> {
    // SAFETY: as the caller promises.
    from_bytes(unsafe { varlena::bytes(datum) })
}

pub fn from_bytes(bytes: &[u8]) -> Result<Measures> {
    packed::unpack(bytes).ok_or_else(damaged)
}

/// In place of what was there.
pub fn read(bytes: &[u8], measures: &mut Measures) -> Result<()> {
    packed::unpack_into(bytes, measures).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a value of llm.measures is damaged")
}

/// `{"requests":3,"cost":0.25}`: what is not zero, in the order of the columns of `llm.usage`.
fn to_text(measures: &Measures) -> Result<String> {
    let mut map = Map::new();
    let counts = COUNTS.iter().zip(measures.counts).filter(|(_, count)| *count != 0).map(|(name, count)| (*name, count.to_string()));
    let amounts =
        AMOUNTS.iter().zip(measures.amounts).filter(|(_, amount)| !amount.is_zero()).map(|(name, amount)| (*name, amount.to_string()));
    for (name, text) in counts.chain(amounts) {
        map.insert(name.to_string(), Value::Number(Number::from_str(&text).map_err(|error| Error::internal(error.to_string()))?));
    }
    Ok(Value::Object(map).to_string())
}

fn from_text(text: &str) -> Result<Measures> {
    let bad = || {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid input for llm.measures").hint(format!(
            "Write a JSON object of numbers, such as {{\"requests\":3,\"cost\":0.25}}. Measures: {}, {}.",
            COUNTS.join(", "),
            AMOUNTS.join(", ")
        ))
    };
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|_| bad())?;
    let mut measures = Measures::default();
    for (name, value) in map {
        let number = value.as_number().ok_or_else(bad)?.to_string();
        if let Some(at) = COUNTS.iter().position(|known| *known == name) {
            measures.counts[at] = number.parse().map_err(|_| bad())?;
        } else if let Some(at) = AMOUNTS.iter().position(|known| *known == name) {
            measures.amounts[at] = Money::parse_sum(&number).ok_or_else(bad)?;
        } else {
            return Err(bad());
        }
    }
    Ok(measures)
}

fn numeric_datum(amount: Money) -> pg_sys::Datum {
    let text = CString::new(amount.to_string()).unwrap_or_default();
    // SAFETY: numeric's input function with a NUL-terminated decimal text and no type modifier.
    unsafe { pg_sys::OidInputFunctionCall(pg_sys::Oid::from(pg_sys::F_NUMERIC_IN), text.as_ptr().cast_mut(), pg_sys::InvalidOid, -1) }
}

/// A count for a column of type bigint. 22003 where it does not fit: an error of the question that
/// asked for it, and of nobody else's.
pub fn bigint(name: &str, count: i128) -> Result<i64> {
    i64::try_from(count).map_err(|_| {
        Error::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{name}\" is out of range for type bigint"))
            .detail("The number is kept and added up exactly, but does not fit into the column.")
            .hint("Ask for a shorter range, or for JSON, whose numbers have no bound: llm.analytics_activity() and its kind.")
    })
}

/// For functions that return it.
pub fn numeric(amount: Money) -> Result<AnyNumeric> {
    AnyNumeric::try_from(amount.to_string().as_str()).map_err(|error| Error::internal(error.to_string()))
}

/// Defines a C function of SQL, strict, which the declaration in sql/15_measures.sql gives its arguments.
macro_rules! sql_function {
    ($name:ident, $info:ident, $body:path) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }

        /// # Safety
        /// Called by PostgreSQL with the arguments of the declaration.
        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $name(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: as the caller promises.
            raise_or(unsafe { $body(fcinfo) })
        }
    };
}

sql_function!(llm_measures_in, pg_finfo_llm_measures_in, input);
sql_function!(llm_measures_out, pg_finfo_llm_measures_out, output);
sql_function!(llm_measures_recv, pg_finfo_llm_measures_recv, receive);
sql_function!(llm_measures_send, pg_finfo_llm_measures_send, send);
sql_function!(llm_measures_count, pg_finfo_llm_measures_count, count);
sql_function!(llm_measures_amount, pg_finfo_llm_measures_amount, amount);

unsafe fn argument(call: pg_sys::FunctionCallInfo, at: usize) -> pg_sys::Datum {
    // SAFETY: strict functions, called with at least that many arguments.
    unsafe { pgrx::fcinfo::pg_getarg_datum(call, at).unwrap_or(pg_sys::Datum::from(0)) }
}

unsafe fn input(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the argument is a cstring.
    unsafe { datum(&from_text(&CStr::from_ptr(argument(call, 0).cast_mut_ptr()).to_string_lossy())?, &mut Vec::new()) }
}

unsafe fn output(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the argument is a value of the type; the text is copied.
    unsafe {
        let text = CString::new(to_text(&from_datum(argument(call, 0))?)?).unwrap_or_default();
        Ok(pg_sys::Datum::from(pg_sys::pstrdup(text.as_ptr())))
    }
}

/// The same text as [`input`].
unsafe fn receive(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the argument is a message, whose rest is the value.
    unsafe {
        let message = argument(call, 0).cast_mut_ptr::<pg_sys::StringInfoData>();
        let mut length = 0;
        let text = pg_sys::pq_getmsgtext(message, (*message).len - (*message).cursor, &mut length);
        datum(&from_text(&CStr::from_ptr(text).to_string_lossy())?, &mut Vec::new())
    }
}

unsafe fn send(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the argument is a value of the type; a text is a bytea.
    unsafe {
        let text = to_text(&from_datum(argument(call, 0))?)?;
        Ok(pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32)))
    }
}

unsafe fn place(call: pg_sys::FunctionCallInfo, places: usize) -> Result<usize> {
    // SAFETY: the second argument is an int.
    let at = unsafe { argument(call, 1) }.value() as i32;
    usize::try_from(at).ok().filter(|at| *at < places).ok_or_else(|| {
        Error::argument(
            "no such measure",
            format!("Measures are numbered from 0 to {}, in the order of the columns of llm.usage.", places - 1),
        )
    })
}

unsafe fn count(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: a value of the type and a place.
    unsafe {
        let at = place(call, COUNTS.len())?;
        Ok(pg_sys::Datum::from(bigint(COUNTS[at], from_datum(argument(call, 0))?.counts[at])?))
    }
}

unsafe fn amount(call: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: a value of the type and a place.
    unsafe {
        let at = place(call, AMOUNTS.len())?;
        Ok(numeric_datum(from_datum(argument(call, 0))?.amounts[at]))
    }
}
