//! Signed deltas, aggregated: what one statement, or one reading of a log, adds to the numbers.

use crate::bucket::Micros;
use crate::dimension::Dimension;
use crate::measure;
use crate::money::Money;
use rustc_hash::FxHashMap;

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

/// The measures of a row or of a sum of rows. A row's numbers are below 10^15, and a sum of more
/// rows than any disk holds stays within these types: nobody's rows can make a sum fail. What a
/// question returns may be narrower, and is checked there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measures {
    pub counts: [i128; measure::COUNTS.len()],
    pub amounts: [Money; measure::AMOUNTS.len()],
}

impl Measures {
    pub fn add(&mut self, other: &Measures, sign: i64) -> Result<(), Overflow> {
        for (total, count) in self.counts.iter_mut().zip(&other.counts) {
            *total = if sign < 0 { total.checked_sub(*count) } else { total.checked_add(*count) }.ok_or(Overflow)?;
        }
        for (total, amount) in self.amounts.iter_mut().zip(other.amounts) {
            if !amount.is_zero() {
                *total = total.checked_add(if sign < 0 { -amount } else { amount }).ok_or(Overflow)?;
            }
        }
        Ok(())
    }

    pub fn is_zero(&self) -> bool {
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

impl Row<'_> {
    /// The organization and the dimensions.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.organization).chain(&self.dimensions).map(AsRef::as_ref)
    }
}

/// A sum is more than its type can hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// What a sum is by: source, kind, bucket, organization and dimensions, as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'a>(&'a [u8]);

/// Bytes before the texts: bucket, source, kind.
const HEAD: usize = 8 + 4 + 1;

impl<'a> Key<'a> {
    pub fn bucket(self) -> Micros {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        Micros::from_be_bytes(bytes)
    }

    pub fn source(self) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[8..12]);
        i32::from_be_bytes(bytes)
    }

    pub fn kind(self) -> i16 {
        i16::from(self.0[12])
    }

    /// The organization, then the dimensions.
    pub fn texts(self) -> impl Iterator<Item = &'a str> {
        // Written from texts, so it is UTF-8.
        self.0[HEAD..self.0.len() - 1].split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).unwrap_or_default())
    }

    pub fn organization(self) -> &'a str {
        self.texts().next().unwrap_or_default()
    }
}

/// Sums by [`Key`].
#[derive(Default, Clone)]
pub struct Deltas {
    sums: FxHashMap<Box<[u8]>, Measures>,
    key: Vec<u8>,
}

impl Deltas {
    /// Adds (`sign` 1) or takes away (`sign` -1) one row.
    pub fn add(&mut self, source: i32, kind: Kind, bucket: Micros, row: &Row<'_>, sign: i64) -> Result<(), Overflow> {
        self.add_sum(source, kind, bucket, row.texts(), &row.measures, sign)
    }

    /// Adds or takes away a sum of rows; `texts` are the organization and the dimensions.
    pub fn add_sum(
        &mut self,
        source: i32,
        kind: Kind,
        bucket: Micros,
        texts: impl Iterator<Item: AsRef<[u8]>>,
        measures: &Measures,
        sign: i64,
    ) -> Result<(), Overflow> {
        self.key.clear();
        self.key.extend_from_slice(&bucket.to_be_bytes());
        self.key.extend_from_slice(&source.to_be_bytes());
        self.key.push(kind as i16 as u8);
        for text in texts {
            // Texts hold no NUL byte in PostgreSQL, so it separates them.
            self.key.extend_from_slice(text.as_ref());
            self.key.push(0);
        }
        match self.sums.get_mut(self.key.as_slice()) {
            Some(sum) => sum.add(measures, sign),
            None => {
                let mut sum = Measures::default();
                sum.add(measures, sign)?;
                self.sums.insert(self.key.clone().into_boxed_slice(), sum);
                Ok(())
            }
        }
    }

    /// The sum by a key.
    pub fn get(&self, key: Key<'_>) -> Option<&Measures> {
        self.sums.get(key.0)
    }

    pub fn len(&self) -> usize {
        self.sums.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The sums that are not zero in every measure.
    pub fn iter(&self) -> impl Iterator<Item = (Key<'_>, &Measures)> {
        self.sums.iter().filter(|(_, sum)| !sum.is_zero()).map(|(key, sum)| (Key(key), sum))
    }

    /// Keeps the sums whose key satisfies `keep`.
    pub fn retain(&mut self, keep: impl Fn(Key<'_>) -> bool) {
        self.sums.retain(|key, _| keep(Key(key)));
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
        deltas.add(1, Kind::Detail, 0, &row("a", "p", 1, "0.1"), -1).unwrap();
        deltas.add(1, Kind::Detail, 0, &row("a", "p", 1, "0.1"), 1).unwrap();
        assert_eq!(deltas.iter().count(), 0);
    }

    #[test]
    fn sums_are_kept_apart_by_every_part_of_the_key() {
        let mut deltas = Deltas::default();
        for (source, kind, bucket, organization, project) in [
            (1, Kind::Detail, 0, "a", "p"),
            (2, Kind::Detail, 0, "a", "p"),
            (1, Kind::Kept, 0, "a", "p"),
            (1, Kind::Detail, -1, "a", "p"),
            (1, Kind::Detail, 0, "ap", ""),
            (1, Kind::Detail, 0, "a", "p"),
        ] {
            deltas.add(source, kind, bucket, &row(organization, project, 1, "0.2"), 1).unwrap();
        }
        let mut rows: Vec<_> = deltas
            .iter()
            .map(|(k, m)| {
                (k.source(), k.kind(), k.bucket(), k.texts().map(String::from).collect::<Vec<_>>(), m.counts[0], m.amounts[0].to_string())
            })
            .collect();
        rows.sort();
        assert_eq!(rows.len(), 5);
        let mut texts = vec![String::new(); 8];
        (texts[0], texts[1]) = ("a".into(), "p".into());
        assert_eq!(rows[1], (1, 0, 0, texts, 2, "0.4".into()));
    }
}
