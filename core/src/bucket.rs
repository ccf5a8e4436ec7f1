//! Buckets: the grain of the rollups.
//!
//! A bucket is an hour of UTC, cut once more at the instants of the UTC day at which some IANA zone starts its local day off the
//! hour. So no bucket straddles a local midnight of any zone from 2018-06-01 on, and a local day is a union of whole buckets.

/// Microseconds since 2000-01-01 00:00 UTC: PostgreSQL's timestamptz.
pub type Micros = i64;

pub const MICROS_PER_MINUTE: i64 = 60_000_000;
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Minutes of the UTC day, off the hour, at which a local day starts somewhere. `tests::cuts_are_those_of_the_zones` derives the list
/// from the IANA data of chrono-tz for 2018-06-01..2040.
pub const CUTS: [i64; 13] = [
    2 * 60 + 30,
    3 * 60 + 30,
    9 * 60 + 30,
    10 * 60 + 15,
    11 * 60 + 15,
    13 * 60 + 30,
    14 * 60 + 30,
    15 * 60 + 15,
    17 * 60 + 30,
    18 * 60 + 15,
    18 * 60 + 30,
    19 * 60 + 30,
    20 * 60 + 30,
];

/// The start of the bucket that holds `at`.
pub fn start(at: Micros) -> Micros {
    let hour = at - at.rem_euclid(MICROS_PER_HOUR);
    let day = at - at.rem_euclid(MICROS_PER_DAY);
    // At most two cuts lie within one hour (18:15 and 18:30): the last one not after `at` wins.
    CUTS.iter().map(|minute| day + minute * MICROS_PER_MINUTE).filter(|cut| *cut > hour && *cut <= at).max().unwrap_or(hour)
}

/// The start of the first bucket that begins at or after `at`: what a half-open upper bound is widened to.
pub fn ceiling(at: Micros) -> Micros {
    let begin = start(at);
    if begin == at { at } else { next(begin) }
}

/// The start of the bucket after the one that begins at `begin`.
pub fn next(begin: Micros) -> Micros {
    let day = begin - begin.rem_euclid(MICROS_PER_DAY);
    let hour = begin - begin.rem_euclid(MICROS_PER_HOUR);
    CUTS.iter()
        .map(|minute| day + minute * MICROS_PER_MINUTE)
        .filter(|cut| *cut > begin)
        .min()
        .unwrap_or(i64::MAX)
        .min(hour + MICROS_PER_HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Duration, NaiveDate, TimeZone, Utc};
    use std::collections::BTreeSet;

    /// The least instant (UTC, minutes since 1970) whose local date is `day` or later.
    fn day_start(zone: chrono_tz::Tz, day: NaiveDate) -> i64 {
        let midnight = day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp() / 60;
        let local_day = |minute: i64| Utc.timestamp_opt(minute * 60, 0).unwrap().with_timezone(&zone).date_naive();
        // Candidates from every offset in force within a day and a half: the first whose local date has come.
        let mut offsets = BTreeSet::new();
        for hours in -36..=36 {
            use chrono::Offset;
            let at = Utc.timestamp_opt(midnight * 60, 0).unwrap() + Duration::hours(hours);
            offsets.insert(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) / 60);
        }
        let mut candidates: BTreeSet<i64> = offsets.iter().map(|offset| midnight - offset).collect();
        // A day without a midnight starts at the transition itself, which is a quarter of an hour in all data since 2018.
        let first = *candidates.first().unwrap() - 180;
        let last = *candidates.last().unwrap() + 180;
        candidates.extend((first..=last).filter(|m| m.rem_euclid(15) == 0));
        candidates.into_iter().find(|minute| local_day(*minute) >= day).unwrap()
    }

    #[test]
    fn cuts_are_those_of_the_zones() {
        let mut found = BTreeSet::new();
        let first = NaiveDate::from_ymd_opt(2018, 6, 1).unwrap();
        let last = NaiveDate::from_ymd_opt(2040, 12, 31).unwrap();
        for zone in chrono_tz::TZ_VARIANTS {
            use chrono::Offset;
            let mut day = first;
            let mut known: Option<(i32, i64)> = None;
            while day <= last {
                // Between two transitions every day starts at the same minute of the UTC day, so only days near one are walked.
                let at = day.and_hms_opt(0, 0, 0).unwrap();
                let around: Vec<i32> = [-26, -13, 0, 13, 26]
                    .iter()
                    .map(|h| zone.offset_from_utc_datetime(&(at + Duration::hours(*h))).fix().local_minus_utc())
                    .collect();
                let minute = if around.iter().all(|o| *o == around[0]) {
                    match known {
                        Some((offset, minute)) if offset == around[0] => minute,
                        _ => {
                            let minute = day_start(zone, day).rem_euclid(1440);
                            known = Some((around[0], minute));
                            minute
                        }
                    }
                } else {
                    day_start(zone, day).rem_euclid(1440)
                };
                if minute % 60 != 0 {
                    found.insert(minute);
                }
                assert!(minute % 60 == 0 || CUTS.contains(&minute), "{zone} {day} starts at {minute}");
                day = day.succ_opt().unwrap();
            }
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), CUTS);
    }

    #[test]
    fn a_day_has_37_buckets_that_tile_it() {
        for day in [-3 * MICROS_PER_DAY, 0, 9_000 * MICROS_PER_DAY] {
            let mut begin = day;
            let mut count = 0;
            while begin < day + MICROS_PER_DAY {
                assert_eq!(start(begin), begin);
                assert_eq!(ceiling(begin), begin);
                let end = next(begin);
                assert_eq!(start(end - 1), begin);
                assert_eq!(ceiling(begin + 1), end);
                begin = end;
                count += 1;
            }
            assert_eq!((begin, count), (day + MICROS_PER_DAY, 37));
        }
    }

    #[test]
    fn bucket_of_known_instants() {
        let at = |h: i64, m: i64| h * MICROS_PER_HOUR + m * MICROS_PER_MINUTE;
        for (given, expected) in [
            (at(18, 14), at(18, 0)),
            (at(18, 15), at(18, 15)),
            (at(18, 29), at(18, 15)),
            (at(18, 30), at(18, 30)),
            (at(18, 59), at(18, 30)),
            (at(12, 59), at(12, 0)),
            (-1, -MICROS_PER_HOUR),
        ] {
            assert_eq!(start(given), expected);
        }
    }
}
