//! Statistics of many measurements.

/// Returns the smallest measurement that at least this share of all measurements do not exceed (nearest rank). `sorted`
/// is ascending and not empty. `share` is above 0 and at most 1.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "there are far fewer measurements than a float counts exactly"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Returns the median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Returns the probability that a measurement of `these` is larger than one of the `others`; ties count half. This is
/// the area under the ROC curve of an attacker who tells them apart by a threshold. 0.5 means that they look the same,
/// 0 and 1 that they differ always. Both must be non-empty.
pub(crate) fn auc(these: &[f64], others: &[f64]) -> f64 {
    let mut sorted = others.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins: usize = these
        .iter()
        .map(|this| {
            let below = sorted.partition_point(|other| other < this);
            let not_above = sorted.partition_point(|other| other <= this);
            below + not_above
        })
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer pairs than a float counts exactly")]
    let share = wins as f64 / (2 * these.len() * sorted.len()) as f64;
    share
}

/// The times of requests in milliseconds, from when they were due.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Sorts the times of at least one request. Panics if there are none.
    pub(crate) fn new(mut millis: Vec<f64>) -> Self {
        assert!(!millis.is_empty(), "nothing was measured");
        millis.sort_by(f64::total_cmp);
        Self(millis)
    }

    /// Returns the time within which this share of the requests was answered.
    pub(crate) fn within(&self, share: f64) -> f64 {
        quantile(&self.0, share)
    }

    /// Returns the longest time.
    pub(crate) fn longest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}
