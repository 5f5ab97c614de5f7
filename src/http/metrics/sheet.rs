//! Writes one metric after the other.

use std::fmt;

use doorward_actors::Distribution;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The labels of a row.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What the metrics are written on.
pub(super) struct Sheet<'e>(pub(super) DescriptorEncoder<'e>);

impl Sheet<'_> {
    /// Writes a value that may rise and fall, for each set of labels.
    pub(super) fn gauge<'a, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes one value that may rise and fall.
    pub(super) fn one(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.gauge(name, unit, help, [(Vec::new(), value)])
    }

    /// Writes a number that only grows, for each set of labels.
    pub(super) fn counter<'a, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    /// Writes words that do not change.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &Labels<'_>) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    /// Writes a distribution of times, which are counted in nanoseconds, in seconds.
    pub(super) fn times<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, &'a Distribution)>,
    ) -> fmt::Result {
        self.histogram(name, Some(&Unit::Seconds), help, rows, |nanos| {
            std::time::Duration::from_nanos(nanos).as_secs_f64()
        })
    }

    /// Writes a distribution of sizes.
    pub(super) fn sizes<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, &'a Distribution)>,
    ) -> fmt::Result {
        // In two halves, which floats hold exactly.
        let float = |size: u64| {
            let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
            half(size >> 32) * 4_294_967_296.0 + half(size)
        };
        self.histogram(name, None, help, rows, float)
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, &'a Distribution)>,
        scale: impl Fn(u64) -> f64,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, counted) in rows {
            let buckets = counted.buckets().map(|(bound, count)| (scale(bound), count));
            let buckets: Vec<_> = buckets.chain([(f64::INFINITY, counted.beyond())]).collect();
            let (sum, count) = (scale(counted.sum()), counted.count());
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
