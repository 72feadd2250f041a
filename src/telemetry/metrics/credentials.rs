//! Gauges whose series come and go with what is stored. Each is replaced as a whole, so that no scrape sees half of it
//! and nothing that was removed stays.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

/// What is told of one kind of thing.
pub(super) trait Told: fmt::Debug + Send + Sync + 'static {
    /// One series: its labels and its value.
    type Series: fmt::Debug + Send + Sync;
    /// The metric's name.
    const NAME: &'static str;
    /// What it means.
    const HELP: &'static str;

    /// Writes one series.
    fn encode(series: &Self::Series, metric: &mut MetricEncoder<'_>) -> fmt::Result;
}

/// When credentials expire: namespace, project, name, seconds since 1970.
#[derive(Debug)]
pub(super) struct Expiries;

/// How many values each key wraps: its id, their number.
#[derive(Debug)]
pub(super) struct ByKey;

impl Told for Expiries {
    type Series = (String, String, String, i64);
    const NAME: &'static str = "stagekeeper_credential_expiry_timestamp_seconds";
    const HELP: &'static str = "When a credential stops working, of those whose end is known";

    fn encode(series: &Self::Series, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        let (namespace, project, credential, seconds) = series;
        let labels = [("namespace", namespace), ("project", project), ("credential", credential)];
        ConstGauge::new(*seconds).encode(metric.encode_family(&labels)?)
    }
}

impl Told for ByKey {
    type Series = (String, i64);
    const NAME: &'static str = "stagekeeper_credentials_by_key";
    const HELP: &'static str = "Sealed values that a key is needed for: a key with none can be retired";

    fn encode(series: &Self::Series, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        let (key_id, number) = series;
        ConstGauge::new(*number).encode(metric.encode_family(&[("key_id", key_id)])?)
    }
}

/// All series of one gauge.
#[derive(Debug)]
pub(super) struct Replaceable<T: Told>(Arc<RwLock<Vec<T::Series>>>);

impl<T: Told> Replaceable<T> {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let series = Arc::new(RwLock::new(Vec::new()));
        registry.register_collector(Box::new(Self(series.clone())));
        Self(series)
    }

    pub(super) fn set(&self, all: Vec<T::Series>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

impl<T: Told> Collector for Replaceable<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut metric = encoder.encode_descriptor(T::NAME, T::HELP, None, MetricType::Gauge)?;
        all.iter().try_for_each(|series| T::encode(series, &mut metric))
    }
}
