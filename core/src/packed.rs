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
/// Decimals of amounts that fit in one limb. Amounts with more are held as two limbs; then this is `WIDE`.
const MAX_SCALE: u8 = 16;
const WIDE: u8 = 32;

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
            put(to, held.into());
        }
    }
    let mut amounts = measures.amounts;
    amounts[COST] = amounts[COST].checked_add(-parts(&amounts)?)?;
    if amounts.iter().any(|amount| !amount.is_zero()) {
        let scale = amounts.iter().map(|amount| scale(*amount)).max().unwrap_or(0);
        to.push(scale);
        for (position, amount) in amounts.iter().enumerate().filter(|(_, amount)| !amount.is_zero()) {
            flags |= 1 << (COUNTS.len() + position);
            let (high, low) = amount.limbs();
            if scale == WIDE {
                put(to, high);
                put(to, low);
            } else {
                put(to, divide(high, POWERS[usize::from(MAX_SCALE - scale)]));
            }
        }
    }
    to[at..at + FLAGS].copy_from_slice(&flags.to_le_bytes()[..FLAGS]);
    Some(())
}

/// What [`pack`] wrote; None where the bytes are not that.
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
        measures.counts[position] = i64::try_from(take(&mut rest)?).ok()?;
    }
    for position in [TOTAL_TOKENS, DURATION_COUNT, TTFT_COUNT] {
        measures.counts[position] = measures.counts[position].checked_add(expected(&measures.counts, position)?)?;
    }
    let amounts = flags >> COUNTS.len();
    if amounts != 0 {
        let (scale, after) = rest.split_first()?;
        rest = after;
        let unit = if *scale <= MAX_SCALE { POWERS[usize::from(MAX_SCALE - scale)] } else { 1 };
        for position in ones(amounts) {
            let high = take(&mut rest)?.checked_mul(unit)?;
            let low = if *scale == WIDE { take(&mut rest)? } else { 0 };
            *measures.amounts.get_mut(position)? = Money::from_limbs(high, low)?;
        }
        let parts = parts(&measures.amounts)?;
        if !parts.is_zero() {
            measures.amounts[COST] = measures.amounts[COST].checked_add(parts)?;
        }
    }
    rest.is_empty().then_some(())
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
fn expected(counts: &[i64; COUNTS.len()], position: usize) -> Option<i64> {
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

/// Decimals of an amount, or `WIDE`.
fn scale(amount: Money) -> u8 {
    let (mut high, low) = amount.limbs();
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

/// Nine bytes hold 63 bits: in 64-bit arithmetic as long as that is enough.
#[inline(always)]
fn take(from: &mut &[u8]) -> Option<i128> {
    let mut small: u64 = 0;
    for (at, byte) in from.iter().take(9).enumerate() {
        small |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Some(i128::from((small >> 1) as i64 ^ -((small & 1) as i64)));
        }
    }
    take_wide(from)
}

#[cold]
fn take_wide(from: &mut &[u8]) -> Option<i128> {
    let mut zigzag: u128 = 0;
    for (at, byte) in from.iter().take(19).enumerate() {
        zigzag |= u128::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            *from = &from[at + 1..];
            return Some((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(measures: &Measures) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(measures, &mut bytes).unwrap();
        bytes
    }

    fn usual() -> Measures {
        let mut measures = Measures::default();
        measures.counts[REQUESTS] = 7;
        measures.counts[INPUT_TOKENS] = 18_000;
        measures.counts[OUTPUT_TOKENS] = 2_345;
        measures.counts[TOTAL_TOKENS] = 20_345;
        measures.counts[DURATION_MS] = 12_345;
        measures.counts[DURATION_COUNT] = 7;
        measures.amounts[1] = Money::parse("0.0123456").unwrap();
        measures.amounts[2] = Money::parse("0.1").unwrap();
        measures.amounts[COST] = Money::parse("0.1123456").unwrap();
        measures
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut odd = usual();
        for count in &mut odd.counts {
            *count -= 1_000_003;
        }
        odd.counts[3] = i64::MAX;
        odd.counts[4] = i64::MIN;
        odd.amounts[COST] = Money::parse("-999999999999999.000000000000000000000000000001").unwrap();
        odd.amounts[4] = Money::parse("1000000").unwrap();
        let mut huge = Measures::default();
        huge.counts[0] = i64::MAX;
        huge.counts[1] = i64::MIN;
        huge.amounts[3] = Money::parse_sum("999999999999999999999.5").unwrap();
        for measures in [Measures::default(), usual(), odd, huge] {
            assert_eq!(unpack(&packed(&measures)), Some(measures));
        }
    }

    #[test]
    fn a_usual_row_is_small() {
        // 3 flags, 1 request, 3 and 2 tokens, 3 duration, 1 scale, 3 and 3 amounts
        assert_eq!(packed(&usual()).len(), 19);
        assert_eq!(packed(&Measures::default()).len(), FLAGS);
    }

    #[test]
    fn sums_are_the_same_however_they_came_about() {
        let mut sum = usual();
        let mut more = usual();
        more.amounts[1] = Money::parse("0.0000000000000000001").unwrap();
        sum.add(&more, 1).unwrap();
        sum.add(&more, -1).unwrap();
        assert_eq!(packed(&sum), packed(&usual()));
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = packed(&usual());
        for cut in 0..good.len() {
            assert_eq!(unpack(&good[..cut]), None, "{cut}");
        }
        assert_eq!(unpack(&[good.as_slice(), &[0]].concat()), None);
        assert_eq!(
            unpack(&[
                1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                1
            ]),
            None
        );
    }
}
