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
                193, 16, 7, 14, 160, 153, 2, 210, 36, 242, 192, 1, 32, 128, 128, 180, 240, 138, 146, 56, 200, 1, 0, 199, 1, 128, 128, 180,
                204, 212, 223, 198, 3, 0,
            ],
        ),
        (
            large,
            &[
                3, 0, 9, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 10, 170, 132, 206,
                134, 141, 151, 203, 210, 181, 147, 232, 151, 184, 137, 1, 169, 132, 206, 134, 141, 151, 203, 210, 181, 147, 232, 151, 184,
                137, 1,
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
            1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1
        ]),
        None
    );
}
