//! Fixed histograms: counting costs one comparison for each bucket below the value and two atomic additions, and allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of [`Histogram::of_times`], in nanoseconds: 1, 2, 5 µs and so on, up to 10 s.
const TIME_BOUNDS: [u64; 22] = one_two_five(1_000);
/// The bounds of [`Histogram::of_requests`], in nanoseconds: 100, 200, 500 µs and so on, up to 10 s.
const REQUEST_BOUNDS: [u64; 16] = one_two_five(100_000);
/// The bounds of [`Histogram::of_sizes`]: the powers of two up to 512.
const SIZE_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// Returns the bounds `first` × 1, 2, 5, 10, 20, 50 and so on.
const fn one_two_five<const N: usize>(first: u64) -> [u64; N] {
    let mut bounds = [0; N];
    let (mut index, mut decade) = (0, first);
    while index < N {
        bounds[index] = match index % 3 {
            0 => decade,
            1 => decade * 2,
            _ => decade * 5,
        };
        if index % 3 == 2 {
            decade *= 10;
        }
        index += 1;
    }
    bounds
}

/// Counts values in fixed buckets. Any thread may count and read at any time.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// The largest value of each bucket.
    bounds: &'static [u64; N],
    buckets: [AtomicU64; N],
    /// How many values are larger than every bound.
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A histogram of short and long times.
pub type Times = Histogram<22>;
/// A histogram of the times that requests take.
pub type RequestTimes = Histogram<16>;
/// A histogram of sizes.
pub type Sizes = Histogram<10>;

impl<const N: usize> Histogram<N> {
    const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, buckets: [const { AtomicU64::new(0) }; N], beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn count(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        let bucket = bucket.map_or(&self.beyond, |index| &self.buckets[index]);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, in nanoseconds.
    pub fn count_time(&self, time: Duration) {
        self.count(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns what was counted so far. Values that are being counted meanwhile may be missing.
    pub fn read(&self) -> Distribution {
        let read = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        Distribution {
            bounds: self.bounds,
            buckets: self.buckets.iter().map(read).collect(),
            beyond: read(&self.beyond),
            sum: read(&self.sum),
        }
    }
}

impl Times {
    /// Creates an empty histogram of times from 1 µs to 10 s.
    #[must_use]
    pub const fn of_times() -> Self {
        Self::new(&TIME_BOUNDS)
    }
}

impl RequestTimes {
    /// Creates an empty histogram of times from 100 µs to 10 s.
    #[must_use]
    pub const fn of_requests() -> Self {
        Self::new(&REQUEST_BOUNDS)
    }
}

impl Sizes {
    /// Creates an empty histogram of sizes up to 512.
    #[must_use]
    pub const fn of_sizes() -> Self {
        Self::new(&SIZE_BOUNDS)
    }
}

/// The content of a [`Histogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    bounds: &'static [u64],
    buckets: Vec<u64>,
    beyond: u64,
    sum: u64,
}

impl Distribution {
    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.beyond
    }

    /// Returns the sum of all values: nanoseconds for times.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the largest value of each bucket with the number of values in it. Values beyond the last bound are not included.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().copied().zip(self.buckets.iter().copied())
    }

    /// Returns how many values are larger than the last bound.
    #[must_use]
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Estimates the value that this percentage of all values do not exceed, as if the values of a bucket were spread evenly over it.
    /// `None` if nothing was counted. A value beyond the last bound counts as that bound.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = u128::from(self.count()) * u128::from(percent.min(100));
        if self.count() == 0 {
            return None;
        }
        let (mut below, mut lower) = (0_u128, 0_u64);
        for (bound, count) in self.buckets() {
            let inside = u128::from(count) * 100;
            if inside > 0 && below + inside >= rank {
                // Rounded up: a size of one lies above the bound of zero.
                let part = (u128::from(bound - lower) * (rank - below)).div_ceil(inside);
                return Some(lower + u64::try_from(part).unwrap_or(u64::MAX));
            }
            below += inside;
            lower = bound;
        }
        Some(lower)
    }

    /// Returns a [percentile](Self::percentile) of times.
    #[must_use]
    pub fn percentile_time(&self, percent: u64) -> Option<Duration> {
        self.percentile(percent).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_one_two_five_up_to_ten_seconds() {
        assert_eq!(TIME_BOUNDS[..4], [1_000, 2_000, 5_000, 10_000]);
        for bounds in [&TIME_BOUNDS[..], &REQUEST_BOUNDS] {
            assert_eq!(bounds.last(), Some(&10_000_000_000));
            assert!(bounds.is_sorted());
        }
    }

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_holds_it() {
        let sizes = Histogram::of_sizes();
        for size in [0, 1, 2, 3, 512, 513, 10_000] {
            sizes.count(size);
        }
        let read = sizes.read();
        assert_eq!(
            read.buckets().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
            [(1, 2), (2, 1), (4, 1), (512, 1)]
        );
        assert_eq!((read.count(), read.sum()), (7, 11_031));
        let ones = Histogram::of_sizes();
        (0..10).for_each(|_| ones.count(1));
        assert_eq!((ones.read().percentile(50), ones.read().percentile(99)), (Some(1), Some(1)));
    }

    #[test]
    fn a_percentile_lies_in_the_bucket_of_its_rank() {
        let times = Histogram::of_times();
        assert_eq!(times.read().percentile(50), None);
        for _ in 0..98 {
            times.count_time(Duration::from_micros(3));
        }
        times.count_time(Duration::from_millis(30));
        times.count_time(Duration::from_mins(1));
        let read = times.read();
        let percentile = |percent| read.percentile_time(percent).unwrap();
        assert!((2_000..=5_000).contains(&percentile(50).as_nanos()), "{:?}", percentile(50));
        assert!((20..=50).contains(&percentile(99).as_millis()), "{:?}", percentile(99));
        assert_eq!(percentile(100), Duration::from_secs(10), "beyond the last bound");
        assert_eq!(percentile(0), Duration::from_micros(2), "where the first value may begin");
    }
}
