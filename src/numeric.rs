//! Reading PostgreSQL's numeric: every amount of every captured row, so not by its text where that can be helped.

use crate::varlena;
use llm_analytics_core::money::Money;
use pgrx::prelude::*;
use std::ffi::CStr;

/// An amount as it counts; None where it does not: NaN, infinite or out of bounds.
///
/// # Safety
/// The datum is a numeric.
pub unsafe fn money(datum: pg_sys::Datum) -> Option<Money> {
    // SAFETY: as the caller promises.
    unsafe { from_digits(datum).or_else(|| Money::parse(&numeric_text(datum))) }
}

/// By the digits as they are stored (struct NumericData of src/backend/utils/adt/numeric.c, the same in PostgreSQL 9.1 to 18).
unsafe fn from_digits(datum: pg_sys::Datum) -> Option<Money> {
    // SAFETY: a numeric's bytes are a header of two or four and base-10000 digits of two each; they may be unaligned.
    let bytes = unsafe { varlena::bytes(datum) };
    let half = |at: usize| Some(i16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let header = half(0)? as u16;
    let (negative, weight, digits) = match header & 0xc000 {
        // NaN and the infinities
        0xc000 => return None,
        // short: sign, scale and a weight of seven bits, sign-extended
        0x8000 => {
            let weight = i32::from(header & 0x3f) - if header & 0x40 != 0 { 0x40 } else { 0 };
            (header & 0x2000 != 0, weight, &bytes[2..])
        }
        sign => (sign == 0x4000, i32::from(half(2)?), &bytes[4..]),
    };
    Money::from_base_10000(negative, weight, digits.chunks_exact(2).map(|pair| i16::from_ne_bytes([pair[0], pair[1]])))
}

/// PostgreSQL's text of a numeric: plain decimal, NaN or Infinity.
///
/// # Safety
/// The datum is a numeric.
pub unsafe fn numeric_text<'a>(datum: pg_sys::Datum) -> std::borrow::Cow<'a, str> {
    // SAFETY: as the caller promises; the text is palloc'd and NUL-terminated.
    unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_NUMERIC_OUT), datum)).to_string_lossy() }
}
