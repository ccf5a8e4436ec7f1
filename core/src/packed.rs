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
        odd.counts[3] = i64::MAX.into();
        odd.counts[4] = i64::MIN.into();
        odd.amounts[COST] = Money::parse("-999999999999999.000000000000000000000000000001").unwrap();
        odd.amounts[4] = Money::parse("1000000").unwrap();
        let mut huge = Measures::default();
        huge.counts[0] = i128::MAX;
        huge.counts[1] = i128::MIN;
        huge.counts[DURATION_MS] = i128::from(i64::MAX) + 1;
        huge.amounts[3] = Money::parse_sum("999999999999999999999.5").unwrap();
        let mut wide = huge.clone();
        wide.amounts[1] = Money::parse_sum("-9999999999999999999999999999999999999999").unwrap();
        wide.amounts[2] = Money::parse("0.000000000000000000000000000001").unwrap();
        for measures in [Measures::default(), usual(), odd, huge, wide] {
            assert_eq!(unpack(&packed(&measures)), Some(measures));
        }
    }

    /// What earlier versions wrote is read, and written, as it was.
    #[test]
    fn bytes_stay_as_they_were() {
        let mut wide = usual();
        wide.amounts[1] = Money::parse("-0.000000000000000000000000000001").unwrap();
        let mut large = Measures::default();
        large.counts[0] = i64::MAX.into();
        large.counts[1] = i64::MIN.into();
        large.amounts[3] = Money::parse_sum("-17014118346046923173.0123456789").unwrap();
        for (measures, bytes) in [
            (usual(), &[193, 16, 6, 14, 160, 153, 2, 210, 36, 242, 192, 1, 7, 128, 137, 15, 128, 137, 122][..]),
            (
                wide,
                &[
                    193, 16, 7, 14, 160, 153, 2, 210, 36, 242, 192, 1, 32, 128, 128, 180, 240, 138, 146, 56, 200, 1, 0, 199, 1, 128, 128,
                    180, 204, 212, 223, 198, 3, 0,
                ],
            ),
            (
                large,
                &[
                    3, 0, 9, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 10, 170, 132,
                    206, 134, 141, 151, 203, 210, 181, 147, 232, 151, 184, 137, 1, 169, 132, 206, 134, 141, 151, 203, 210, 181, 147, 232,
                    151, 184, 137, 1,
                ],
            ),
        ] {
            assert_eq!(packed(&measures), bytes);
            assert_eq!(unpack(bytes), Some(measures));
        }
    }

    /// A sequence without a crate (xorshift64*), the same in every run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number of any length, short ones as often as long ones.
    fn number(state: &mut u64) -> i128 {
        let bits = random(state) % 128;
        let wide = (u128::from(random(state)) << 64 | u128::from(random(state))) as i128;
        wide >> bits
    }

    #[test]
    fn any_measures_come_back() {
        let mut state = 7;
        for _ in 0..200_000 {
            let mut measures = Measures::default();
            for count in measures.counts.iter_mut() {
                if random(&mut state).is_multiple_of(2) {
                    *count = number(&mut state) >> 2;
                }
            }
            for amount in measures.amounts.iter_mut() {
                let (high, low) = (number(&mut state), number(&mut state) as i64 / 1_000);
                *amount = match random(&mut state) % 8 {
                    0..4 => Money::ZERO,
                    4 => Money::from_high(high),
                    5 => Money::from_high(high / 1_000_000 * 1_000_000),
                    6 => Money::from_high(high).checked_add(Money::from_parts(0, 0, low % 10_i64.pow(16)).unwrap()).unwrap(),
                    _ => Money::from_parts(high as i64 >> 6, number(&mut state) as u128, 0).unwrap(),
                };
            }
            let bytes = packed(&measures);
            assert_eq!(unpack(&bytes).as_ref(), Some(&measures), "{bytes:?}");
        }
    }

    /// There are no two ways to write a value, so that equal values have equal bytes.
    #[test]
    fn random_bytes_are_refused_or_canonical() {
        let (mut state, mut good) = (11, 0);
        for _ in 0..1_000_000 {
            let mut bytes = packed(&usual());
            match random(&mut state) % 3 {
                0 => {
                    let length = random(&mut state) as usize % 60;
                    bytes = (0..length).map(|_| random(&mut state) as u8).collect();
                }
                1 => {
                    let mut measures = usual();
                    measures.counts[3] = number(&mut state) >> 1;
                    measures.amounts[3] = Money::from_high(number(&mut state) >> 1);
                    bytes = packed(&measures);
                }
                _ => {}
            }
            for _ in 0..random(&mut state) % 3 {
                if !bytes.is_empty() {
                    let at = random(&mut state) as usize % bytes.len();
                    bytes[at] = if random(&mut state).is_multiple_of(2) { 0 } else { random(&mut state) as u8 };
                }
            }
            if let Some(measures) = unpack(&bytes) {
                good += 1;
                assert_eq!(packed(&measures), bytes);
            }
        }
        assert!(good > 100_000, "{good}");
    }

    #[test]
    fn a_number_with_more_bits_than_fit_is_refused() {
        let mut widest = Measures::default();
        widest.counts[REQUESTS] = i128::MIN;
        let mut bytes = packed(&widest);
        assert_eq!((bytes.len(), bytes[FLAGS + 18]), (FLAGS + 19, 3));
        for last in [4, 7, 0x43, 0x83] {
            bytes[FLAGS + 18] = last;
            assert_eq!(unpack(&bytes), None, "{last}");
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
