//! Measures as bytes: how `_pending` and the rollups hold them (`llm.measures`).
//!
//! Most measures of most rows are zero or follow from the others, and a row's width is what reading a year and writing a delta cost. So only
//! what is not zero is held: three bytes of flags, then each number in as many bytes as it needs. Three counts and the cost are held as what they
//! differ from what they mostly are: the total from input + output, the counts of durations from the requests, the cost from the sum of its parts.
//!
//! The encoding is canonical: equal measures have equal bytes. Numbers are LEB128 (as in Protocol Buffers and DWARF), signed ones zigzag.

use crate::delta::Measures;
use crate::measure::{
    AMOUNTS, COUNTS, DURATION_COUNT, DURATION_MS, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOTAL_TOKENS, TTFT_COUNT, TTFT_MS,
};
use crate::money::Money;

const FLAGS: usize = 3;
/// The cost; its parts follow it in [`AMOUNTS`].
const COST: usize = 0;
/// Decimals of amounts that are held as one number. Where one of the amounts has more, the scale is
/// `WIDE` and each is two numbers, as [`Money::high`] gives them. Where one does not fit in that
/// either, it is `WIDEST` and each is the three of [`Money::parts`].
const MAX_SCALE: u8 = 16;
const WIDE: u8 = 32;
const WIDEST: u8 = 48;

/// Of ten.
const POWERS: [i128; MAX_SCALE as usize + 1] = {
    let mut powers = [1; MAX_SCALE as usize + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Appends the bytes; None where a sum of parts overflows.
pub fn pack(measures: &Measures, to: &mut Vec<u8>) -> Option<()> {
    let at = to.len();
    to.extend_from_slice(&[0; FLAGS]);
    let mut flags: u32 = 0;
    for (position, count) in measures.counts.iter().enumerate() {
        let held = match position {
            TOTAL_TOKENS | DURATION_COUNT | TTFT_COUNT => count.checked_sub(expected(&measures.counts, position)?)?,
            _ => *count,
        };
        if held != 0 {
            flags |= 1 << position;
            put(to, held);
        }
    }
    let mut amounts = measures.amounts;
    amounts[COST] = amounts[COST].checked_add(-parts(&amounts)?)?;
    if amounts.iter().any(|amount| !amount.is_zero()) {
        let scale = amounts.iter().map(|amount| scale(*amount)).max().unwrap_or(0);
        to.push(scale);
        for (position, amount) in amounts.iter().enumerate().filter(|(_, amount)| !amount.is_zero()) {
            flags |= 1 << (COUNTS.len() + position);
            match (scale, amount.high()) {
                (0..=MAX_SCALE, (Some(high), _)) => put(to, divide(high, POWERS[usize::from(MAX_SCALE - scale)])),
                (WIDE, (Some(high), low)) => {
                    put(to, high);
                    put(to, low.into());
                }
                _ => {
                    let (top, middle, low) = amount.parts();
                    put(to, top.into());
                    put(to, middle as i128);
                    put(to, low.into());
                }
            }
        }
    }
    to[at..at + FLAGS].copy_from_slice(&flags.to_le_bytes()[..FLAGS]);
    Some(())
}

/// What [`pack`] wrote; None where the bytes are not just that.
pub fn unpack(bytes: &[u8]) -> Option<Measures> {
    let mut measures = Measures::default();
    unpack_into(bytes, &mut measures)?;
    Some(measures)
}

/// The same in place of what was there: to hand a value of this size on costs readers more than to fill it in. After None it holds anything.
pub fn unpack_into(bytes: &[u8], measures: &mut Measures) -> Option<()> {
    *measures = Measures::default();
    let (flags, mut rest) = bytes.split_first_chunk::<FLAGS>()?;
    let flags = u32::from_le_bytes([flags[0], flags[1], flags[2], 0]);
    for position in ones(flags & ((1 << COUNTS.len()) - 1)) {
        measures.counts[position] = not_zero(take(&mut rest)?)?;
    }
    for position in [TOTAL_TOKENS, DURATION_COUNT, TTFT_COUNT] {
        measures.counts[position] = measures.counts[position].checked_add(expected(&measures.counts, position)?)?;
    }
    let amounts = flags >> COUNTS.len();
    if amounts != 0 {
        let (scale, after) = rest.split_first()?;
        rest = after;
        take_amounts(&mut rest, *scale, amounts, &mut measures.amounts)?;
        let parts = parts(&measures.amounts)?;
        if !parts.is_zero() {
            measures.amounts[COST] = measures.amounts[COST].checked_add(parts)?;
        }
    }
    rest.is_empty().then_some(())
}

/// The amounts whose bits are set, at a scale that at least one of them needs.
#[inline(always)]
fn take_amounts(from: &mut &[u8], scale: u8, bits: u32, amounts: &mut [Money; AMOUNTS.len()]) -> Option<()> {
    if scale > MAX_SCALE {
        return take_wide_amounts(from, scale, bits, amounts);
    }
    let unit = POWERS[usize::from(MAX_SCALE - scale)];
    let mut is_needed = scale == 0;
    for position in ones(bits) {
        let number = not_zero(take(from)?)?;
        is_needed = is_needed || has_last_digit(number);
        *amounts.get_mut(position)? = Money::from_high(number.checked_mul(unit)?);
    }
    is_needed.then_some(())
}

#[cold]
fn take_wide_amounts(from: &mut &[u8], scale: u8, bits: u32, amounts: &mut [Money; AMOUNTS.len()]) -> Option<()> {
    let mut is_needed = false;
    for position in ones(bits) {
        let narrow = |number: i128| i64::try_from(number).ok();
        let (top, middle) = match (scale, take(from)?) {
            (WIDE, high) => ((high >> 127) as i64, high as u128),
            (WIDEST, top) => (narrow(top)?, take(from)? as u128),
            _ => return None,
        };
        let amount = Money::from_parts(top, middle, narrow(take(from)?)?)?;
        is_needed |= self::scale(amount) == scale;
        *amounts.get_mut(position)? = amount;
        if amount.is_zero() {
            return None;
        }
    }
    is_needed.then_some(())
}

fn not_zero(number: i128) -> Option<i128> {
    (number != 0).then_some(number)
}

/// A remainder of 128 bits is slow, and seldom needed.
fn has_last_digit(number: i128) -> bool {
    i64::try_from(number).map_or_else(|_| number % 10 != 0, |number| number % 10 != 0)
}

/// The positions of the bits that are set, in order.
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = bits.trailing_zeros() as usize;
        (bits != 0).then(|| {
            bits &= bits - 1;
            position
        })
    })
}

/// What a count mostly is, given those before it.
fn expected(counts: &[i128; COUNTS.len()], position: usize) -> Option<i128> {
    let counted = |sum: usize| if counts[sum] == 0 { 0 } else { counts[REQUESTS] };
    match position {
        TOTAL_TOKENS => counts[INPUT_TOKENS].checked_add(counts[OUTPUT_TOKENS]),
        DURATION_COUNT => Some(counted(DURATION_MS)),
        TTFT_COUNT => Some(counted(TTFT_MS)),
        _ => Some(0),
    }
}

fn parts(amounts: &[Money; AMOUNTS.len()]) -> Option<Money> {
    amounts[COST + 1..].iter().filter(|amount| !amount.is_zero()).try_fold(Money::ZERO, |sum, amount| sum.checked_add(*amount))
}

/// A division of 128 bits is slow, and seldom needed.
fn divide(number: i128, by: i128) -> i128 {
    match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => (number / by).into(),
        _ => number / by,
    }
}

/// Decimals of an amount, or `WIDE` or `WIDEST`.
fn scale(amount: Money) -> u8 {
    let (Some(mut high), low) = amount.high() else { return WIDEST };
    if amount.is_zero() {
        return 0;
    }
    if low != 0 {
        return WIDE;
    }
    let mut scale = MAX_SCALE;
    // Division by a constant is fast where the number fits in 64 bits, as nearly all do.
    if let Ok(mut small) = i64::try_from(high) {
        while scale > 0 && small % 10 == 0 {
            small /= 10;
            scale -= 1;
        }
        return scale;
    }
    while scale > 0 && high % 10 == 0 {
        high /= 10;
        scale -= 1;
    }
    scale
}

fn put(to: &mut Vec<u8>, number: i128) {
    if let Ok(number) = i64::try_from(number) {
        let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
        while zigzag >= 0x80 {
            to.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        return to.push(zigzag as u8);
    }
    let mut zigzag = ((number << 1) ^ (number >> 127)) as u128;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

/// Nine bytes hold 63 bits: in 64-bit arithmetic as long as that is enough. None where the bytes
/// end, or are more than the number needs: then the last is zero.
#[inline(always)]
fn take(from: &mut &[u8]) -> Option<i128> {
    let mut small: u64 = 0;
    for (at, byte) in from.iter().take(9).enumerate() {
        small |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return (*byte != 0 || at == 0).then(|| i128::from((small >> 1) as i64 ^ -((small & 1) as i64)));
        }
    }
    take_wide(from)
}

/// Nineteen bytes hold 133 bits. None where the number has more than the 128 that fit.
#[cold]
fn take_wide(from: &mut &[u8]) -> Option<i128> {
    const LAST: usize = 18;
    let mut zigzag: u128 = 0;
    for (at, byte) in from.iter().take(LAST + 1).enumerate() {
        if at == LAST && byte >> (128 - 7 * LAST) != 0 {
            return None;
        }
        zigzag |= u128::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return (*byte != 0).then_some((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
        }
    }
    None
}

#[cfg(test)]
mod tests;
