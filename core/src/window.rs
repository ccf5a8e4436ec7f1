//! How local days are put together: from days of UTC, made right at both ends with buckets.
//!
//! A day of UTC counts for the local day that holds its noon. What of it belongs to other local days is taken from there and given to them, bucket by bucket.
//! So a year in any zone reads one row a day, and the buckets between two midnights.

use crate::bucket::{MICROS_PER_DAY, Micros};

/// Buckets that count for one local day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub from: Micros,
    pub to: Micros,
    /// The local day, counted from 0.
    pub day: usize,
    /// The local day that has them already, because it has the day of UTC they lie in.
    pub taken_from: Option<usize>,
}

/// What to read of a range of local days.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    starts: Vec<Micros>,
    /// Half-open: the days of UTC that lie in the range.
    pub days: (Micros, Micros),
    pub parts: Vec<Part>,
}

impl Window {
    /// `starts`: the instants at which the local days begin, and the end of the last. Some may be equal: a zone can skip a day.
    pub fn new(starts: &[Micros]) -> Window {
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else {
            return Window { starts: Vec::new(), days: (0, 0), parts: Vec::new() };
        };
        let begin = first + (-first).rem_euclid(MICROS_PER_DAY);
        let end = last - last.rem_euclid(MICROS_PER_DAY);
        let days = if begin < end { (begin, end) } else { (*last, *last) };
        let mut window = Window { starts: starts.to_vec(), days, parts: Vec::new() };
        window.cut(*first, days.0, None);
        let mut day = days.0;
        while day < days.1 {
            window.cut(day, day + MICROS_PER_DAY, Some(window.day(day)));
            day += MICROS_PER_DAY;
        }
        window.cut(days.1, *last, None);
        window
    }

    /// The local day a day of UTC counts for.
    pub fn day(&self, day_of_utc: Micros) -> usize {
        self.local(day_of_utc + MICROS_PER_DAY / 2)
    }

    fn local(&self, at: Micros) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Parts for all that lies in `from..to` but not in the local day `taken_from`.
    fn cut(&mut self, from: Micros, to: Micros, taken_from: Option<usize>) {
        let mut at = from;
        while at < to {
            let day = self.local(at);
            let end = self.starts.get(day + 1).map_or(to, |next| to.min(*next));
            if Some(day) != taken_from {
                self.parts.push(Part { from: at, to: end, day, taken_from });
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::MICROS_PER_HOUR as HOUR;

    const DAY: Micros = MICROS_PER_DAY;

    /// The hours of each local day, by the window's way.
    fn hours(starts: &[Micros]) -> Vec<i64> {
        let window = Window::new(starts);
        let mut hours = vec![0; starts.len() - 1];
        let mut at = window.days.0;
        while at < window.days.1 {
            hours[window.day(at)] += 24;
            at += DAY;
        }
        for part in &window.parts {
            assert!(part.from < part.to);
            hours[part.day] += (part.to - part.from) / HOUR;
            if let Some(other) = part.taken_from {
                hours[other] -= (part.to - part.from) / HOUR;
            }
        }
        hours
    }

    #[test]
    fn every_local_day_has_its_hours() {
        for offset in [-12, -8, -1, 0, 1, 2, 11, 12, 14] {
            let starts: Vec<Micros> = (0..20).map(|day| (100 + day) * DAY - offset * HOUR).collect();
            assert_eq!(hours(&starts), [24; 19], "{offset}");
        }
        // days of 23 and 25 hours, and one that a zone skips
        let starts = [0, 24, 47, 71, 96, 96, 120].map(|hour| 50 * DAY + (hour + 22) * HOUR);
        assert_eq!(hours(&starts), [24, 23, 24, 25, 0, 24]);
        // less than a day of UTC, and nothing
        assert_eq!(hours(&[3 * HOUR, 7 * HOUR]), [4]);
        assert_eq!(hours(&[5 * HOUR, 29 * HOUR]), [24]);
        assert!(Window::new(&[]).parts.is_empty());
    }

    #[test]
    fn little_is_read_by_the_bucket() {
        // Berlin: the two hours before midnight UTC
        let starts: Vec<Micros> = (0..=30).map(|day| day * DAY - 2 * HOUR).collect();
        let window = Window::new(&starts);
        assert_eq!(window.days, (0, 29 * DAY));
        assert!(window.parts[1..window.parts.len() - 1].iter().all(|part| part.to - part.from == 2 * HOUR));
        // the whole range at once: only its ends
        let window = Window::new(&[-2 * HOUR, 30 * DAY - 2 * HOUR]);
        assert_eq!((window.days, window.parts.len()), ((0, 29 * DAY), 2));
        assert!(Window::new(&[0, DAY, 2 * DAY]).parts.is_empty());
    }
}
