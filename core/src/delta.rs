//! Signed deltas, aggregated: what one statement, or one reading of a log, adds to the numbers.

use crate::bucket::Micros;
use crate::dimension::Dimension;
use crate::measure;
use crate::money::Money;
use std::collections::HashMap;

/// What a delta changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum Kind {
    /// The numbers that are shown.
    Detail = 0,
    /// The record of rows that were deleted and go on counting.
    Kept = 1,
    /// Values that were out of bounds and count as 0; `requests` is their number.
    Skipped = 2,
}

/// The measures of a row or of a sum of rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measures {
    pub counts: [i128; measure::COUNTS.len()],
    pub amounts: [Money; measure::AMOUNTS.len()],
}

impl Measures {
    fn is_zero(&self) -> bool {
        self.counts.iter().all(|n| *n == 0) && self.amounts.iter().all(Money::is_zero)
    }
}

/// One row of a request log, as read. Texts borrow from the row.
#[derive(Default)]
pub struct Row<'a> {
    pub organization: std::borrow::Cow<'a, str>,
    pub dimensions: [std::borrow::Cow<'a, str>; Dimension::ALL.len()],
    pub measures: Measures,
}

/// A sum overflowed: more than the measures' types can hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// Sums by kind, bucket, organization and dimensions.
#[derive(Default)]
pub struct Deltas {
    sums: HashMap<Box<[u8]>, Measures>,
    key: Vec<u8>,
}

impl Deltas {
    /// Adds (`sign` 1) or takes away (`sign` -1) one row.
    pub fn add(&mut self, kind: Kind, bucket: Micros, row: &Row<'_>, sign: i128) -> Result<(), Overflow> {
        self.key.clear();
        self.key.extend_from_slice(&bucket.to_be_bytes());
        self.key.push(kind as i16 as u8);
        for text in std::iter::once(row.organization.as_ref()).chain(row.dimensions.iter().map(AsRef::as_ref)) {
            // Texts hold no NUL byte in PostgreSQL, so it separates them.
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(0);
        }
        if !self.sums.contains_key(self.key.as_slice()) {
            self.sums.insert(self.key.clone().into_boxed_slice(), Measures::default());
        }
        let Some(sum) = self.sums.get_mut(self.key.as_slice()) else { return Err(Overflow) };
        for (total, count) in sum.counts.iter_mut().zip(row.measures.counts) {
            *total = total.checked_add(sign * count).ok_or(Overflow)?;
        }
        for (total, amount) in sum.amounts.iter_mut().zip(row.measures.amounts) {
            *total = total.checked_add(if sign < 0 { -amount } else { amount }).ok_or(Overflow)?;
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.sums.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The sums that are not zero in every measure: (kind, bucket, organization and dimensions, measures).
    pub fn drain(&mut self) -> impl Iterator<Item = (i16, Micros, Vec<String>, Measures)> + '_ {
        self.sums.drain().filter(|(_, sum)| !sum.is_zero()).map(|(key, sum)| {
            let mut bucket = [0; 8];
            bucket.copy_from_slice(&key[..8]);
            let texts = key[9..key.len() - 1].split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned()).collect();
            (i16::from(key[8]), Micros::from_be_bytes(bucket), texts, sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(organization: &'a str, project: &'a str, requests: i128, cost: &str) -> Row<'a> {
        let mut row = Row { organization: organization.into(), ..Row::default() };
        row.dimensions[Dimension::Project as usize] = project.into();
        row.measures.counts[measure::REQUESTS] = requests;
        row.measures.amounts[0] = Money::parse(cost).unwrap();
        row
    }

    #[test]
    fn what_cancels_out_leaves_nothing() {
        let mut deltas = Deltas::default();
        deltas.add(Kind::Detail, 0, &row("a", "p", 1, "0.1"), -1).unwrap();
        deltas.add(Kind::Detail, 0, &row("a", "p", 1, "0.1"), 1).unwrap();
        assert_eq!(deltas.drain().count(), 0);
    }

    #[test]
    fn sums_are_kept_apart_by_every_part_of_the_key() {
        let mut deltas = Deltas::default();
        for (kind, bucket, organization, project) in
            [(Kind::Detail, 0, "a", "p"), (Kind::Kept, 0, "a", "p"), (Kind::Detail, 1, "a", "p"), (Kind::Detail, 0, "ap", ""), (Kind::Detail, 0, "a", "p")]
        {
            deltas.add(kind, bucket, &row(organization, project, 1, "0.2"), 1).unwrap();
        }
        let mut rows: Vec<_> = deltas.drain().map(|(k, b, t, m)| (k, b, t[0].clone(), t[1].clone(), m.counts[0], m.amounts[0].to_string())).collect();
        rows.sort();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0], (0, 0, "a".into(), "p".into(), 2, "0.4".into()));
    }
}
