//! Instruments: counters, histograms and gauges that take only typed tags.
//!
//! A crate's `metrics.rs` asks [`Meters`] for its instruments once, with name, unit and help, and keeps
//! them. What is tagged is part of the instrument's type, so a call site cannot invent a label:
//! `Counter<(Operation, OutcomeClass)>` takes exactly those two.
//!
//! Names are written with dots (`statehouse.commands`); the exporter turns them into Prometheus names and
//! adds unit and `_total`. Recording costs some 0.2 us and no allocation.
//!
//! Absent on purpose: a global meter. Whoever measures was given [`Meters`], so two nodes in one process
//! (a test) do not count into one another.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Encoder as _, TextEncoder};

use statehouse_contract::{Operation, OutcomeClass};

use crate::{
    TelemetryError,
    outlet::{OutletSettings, resource},
};

/// How often numbers are told to the collector.
const EVERY: Duration = Duration::from_secs(15);
/// How long the collector may take for them.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bounds for durations in seconds, from 100 us to 30 s: fine where the budgets are.
pub const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];

/// A closed list of words that may become a label's value. Implement it for enums only.
pub trait Tag: Copy + Send + Sync + 'static {
    /// The label's name.
    const KEY: &'static str;

    /// Returns the word for this value.
    fn value(self) -> &'static str;
}

impl Tag for OutcomeClass {
    const KEY: &'static str = "outcome";

    fn value(self) -> &'static str {
        self.name()
    }
}

impl Tag for Operation {
    const KEY: &'static str = "operation";

    fn value(self) -> &'static str {
        self.name()
    }
}

/// The tags of one instrument: none, or a tuple of up to three.
pub trait Tags: Copy + Send + Sync + 'static {
    /// Calls `record` with the tags as attributes.
    fn give(self, record: impl FnOnce(&[KeyValue]));
}

fn pair<T: Tag>(tag: T) -> KeyValue {
    KeyValue::new(T::KEY, tag.value())
}

impl Tags for () {
    fn give(self, record: impl FnOnce(&[KeyValue])) {
        record(&[]);
    }
}

impl<A: Tag> Tags for (A,) {
    fn give(self, record: impl FnOnce(&[KeyValue])) {
        record(&[pair(self.0)]);
    }
}

impl<A: Tag, B: Tag> Tags for (A, B) {
    fn give(self, record: impl FnOnce(&[KeyValue])) {
        record(&[pair(self.0), pair(self.1)]);
    }
}

impl<A: Tag, B: Tag, C: Tag> Tags for (A, B, C) {
    fn give(self, record: impl FnOnce(&[KeyValue])) {
        record(&[pair(self.0), pair(self.1), pair(self.2)]);
    }
}

/// Counts what only grows.
pub struct Counter<T>(opentelemetry::metrics::Counter<u64>, PhantomData<T>);

impl<T: Tags> Counter<T> {
    /// Counts `by` more.
    pub fn add(&self, by: u64, tags: T) {
        tags.give(|attributes| self.0.add(by, attributes));
    }
}

/// Spreads measurements over fixed bounds.
pub struct Histogram<T>(opentelemetry::metrics::Histogram<f64>, PhantomData<T>);

impl<T: Tags> Histogram<T> {
    /// Takes one measurement in.
    pub fn record(&self, value: f64, tags: T) {
        tags.give(|attributes| self.0.record(value, attributes));
    }
}

/// Holds the last value it was told.
pub struct Gauge<T>(opentelemetry::metrics::Gauge<f64>, PhantomData<T>);

impl<T: Tags> Gauge<T> {
    /// Sets the value.
    pub fn set(&self, value: f64, tags: T) {
        tags.give(|attributes| self.0.record(value, attributes));
    }
}

/// Goes up and down with what is there now: permits taken, actors awake.
pub struct Level<T>(opentelemetry::metrics::UpDownCounter<i64>, PhantomData<T>);

impl<T: Tags> Level<T> {
    /// Changes the level.
    pub fn add(&self, by: i64, tags: T) {
        tags.give(|attributes| self.0.add(by, attributes));
    }
}

macro_rules! cheap_to_clone {
    ($($name:ident)*) => {$(
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone(), PhantomData)
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

cheap_to_clone!(Counter Histogram Gauge Level);

/// An instrument that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// `counter`, `histogram` or `gauge`.
    pub kind: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl Made {
    /// Returns the name under which Prometheus knows an instrument.
    #[must_use]
    pub fn exported(&self, name: &str) -> String {
        let mut exported = name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        exported.push_str(unit);
        if self.kind == "counter" {
            exported.push_str("_total");
        }
        exported
    }
}

/// The source of instruments and the text of `/metrics`. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    meter: Meter,
    kept: Arc<Kept>,
}

struct Kept {
    /// Every instrument that was made, with its kind, unit and help.
    made: Mutex<BTreeMap<&'static str, Made>>,
    registry: prometheus::Registry,
    // Dropping the provider would end collection.
    _provider: SdkMeterProvider,
}

impl Meters {
    /// Starts a registry of its own.
    ///
    /// # Errors
    /// Says why the exporter did not come up.
    pub fn start() -> Result<Self, TelemetryError> {
        Self::begin(None)
    }

    /// Starts a registry that also tells its numbers to a collector, every few seconds, from a thread of its own.
    ///
    /// # Errors
    /// Says why an exporter did not come up.
    pub fn start_telling(settings: &OutletSettings) -> Result<Self, TelemetryError> {
        Self::begin(Some(settings))
    }

    fn begin(telling: Option<&OutletSettings>) -> Result<Self, TelemetryError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(TelemetryError::Metrics)?;
        let mut provider = SdkMeterProvider::builder().with_reader(exporter);
        provider = match telling {
            None => provider
                .with_resource(Resource::builder_empty().with_service_name("statehouse").build()),
            Some(settings) => {
                let builder = opentelemetry_otlp::MetricExporter::builder()
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_timeout(PATIENCE);
                let built = match &settings.endpoint {
                    Some(base) => {
                        let base = base.trim_end_matches('/');
                        builder.with_endpoint(format!("{base}/v1/metrics")).build()
                    }
                    None => builder.build(),
                };
                let reader = PeriodicReader::builder(built.map_err(TelemetryError::Otlp)?)
                    .with_interval(EVERY)
                    .build();
                provider
                    .with_resource(resource(settings, settings.service.clone()))
                    .with_reader(reader)
            }
        };
        let provider = provider.build();
        let meter = provider.meter("statehouse");
        Ok(Self {
            meter,
            kept: Arc::new(Kept { made: Mutex::default(), registry, _provider: provider }),
        })
    }

    /// Makes a counter. The unit is a UCUM word or an annotation such as `{command}`.
    #[must_use]
    pub fn counter<T: Tags>(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> Counter<T> {
        self.note(name, "counter", unit, help);
        let made = self.meter.u64_counter(name).with_unit(unit).with_description(help).build();
        Counter(made, PhantomData)
    }

    /// Makes a histogram over `bounds`.
    #[must_use]
    pub fn histogram<T: Tags>(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        bounds: &[f64],
    ) -> Histogram<T> {
        self.note(name, "histogram", unit, help);
        let builder = self.meter.f64_histogram(name).with_unit(unit).with_description(help);
        Histogram(builder.with_boundaries(bounds.to_vec()).build(), PhantomData)
    }

    /// Makes a gauge that is set.
    #[must_use]
    pub fn gauge<T: Tags>(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> Gauge<T> {
        self.note(name, "gauge", unit, help);
        let made = self.meter.f64_gauge(name).with_unit(unit).with_description(help).build();
        Gauge(made, PhantomData)
    }

    /// Makes a level that is counted up and down.
    #[must_use]
    pub fn level<T: Tags>(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> Level<T> {
        self.note(name, "gauge", unit, help);
        let made =
            self.meter.i64_up_down_counter(name).with_unit(unit).with_description(help).build();
        Level(made, PhantomData)
    }

    /// Watches a value that is read whenever somebody collects. `read` must be quick and must not block.
    pub fn watch(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.note(name, "gauge", unit, help);
        // The instrument lives as long as the provider; the handle is of no use to anybody.
        let _ = self
            .meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// Watches a count that only grows and is kept elsewhere; `read` as in [`watch`](Self::watch).
    pub fn watch_count(
        &self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.note(name, "counter", unit, help);
        let _ = self
            .meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    fn note(&self, name: &'static str, kind: &'static str, unit: &'static str, help: &'static str) {
        let mut made = self.kept.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(name, Made { kind, unit, help });
    }

    /// Returns every instrument that was made, by its name as it is exported.
    #[must_use]
    pub fn list(&self) -> BTreeMap<String, Made> {
        let made = self.kept.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().map(|(name, made)| (made.exported(name), *made)).collect()
    }

    /// Writes every instrument in Prometheus' text format, version 0.0.4, sorted by name.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Only an inconsistent family can fail here; the families come from one exporter. What was
        // written before it still counts.
        let _ = TextEncoder::new().encode(&self.kept.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_instrument_comes_out_as_prometheus_text() {
        let meters = Meters::start().unwrap();
        let commands: Counter<(Operation, OutcomeClass)> =
            meters.counter("statehouse.commands", "{command}", "commands by outcome");
        let took: Histogram<(Operation,)> =
            meters.histogram("statehouse.command.duration", "s", "time to answer", &[0.01, 0.1]);
        let room: Gauge<()> = meters.gauge("statehouse.disk.free", "By", "free disk space");
        let permits: Level<()> = meters.level("statehouse.permits", "{permit}", "permits taken");
        meters.watch("statehouse.apply.lag", "{entry}", "entries not applied yet", || 3.0);
        commands.add(2, (Operation::Send, OutcomeClass::Ok));
        commands.add(1, (Operation::Send, OutcomeClass::Refused));
        took.record(0.05, (Operation::Send,));
        room.set(7.0, ());
        permits.add(2, ());
        permits.add(-1, ());
        expect_test::expect![[r##"
            # HELP statehouse_apply_lag entries not applied yet
            # TYPE statehouse_apply_lag gauge
            statehouse_apply_lag 3
            # HELP statehouse_command_duration_seconds time to answer
            # TYPE statehouse_command_duration_seconds histogram
            statehouse_command_duration_seconds_bucket{operation="send",le="0.01"} 0
            statehouse_command_duration_seconds_bucket{operation="send",le="0.1"} 1
            statehouse_command_duration_seconds_bucket{operation="send",le="+Inf"} 1
            statehouse_command_duration_seconds_sum{operation="send"} 0.05
            statehouse_command_duration_seconds_count{operation="send"} 1
            # HELP statehouse_commands_total commands by outcome
            # TYPE statehouse_commands_total counter
            statehouse_commands_total{operation="send",outcome="ok"} 2
            statehouse_commands_total{operation="send",outcome="refused"} 1
            # HELP statehouse_disk_free_bytes free disk space
            # TYPE statehouse_disk_free_bytes gauge
            statehouse_disk_free_bytes 7
            # HELP statehouse_permits permits taken
            # TYPE statehouse_permits gauge
            statehouse_permits 1
        "##]]
        .assert_eq(&meters.render());
    }

    #[test]
    fn two_nodes_of_one_process_do_not_count_into_one_another() {
        let (one, two) = (Meters::start().unwrap(), Meters::start().unwrap());
        let counter: Counter<()> = one.counter("statehouse.commands", "{command}", "commands");
        let _: Counter<()> = two.counter("statehouse.commands", "{command}", "commands");
        counter.add(1, ());
        assert!(one.render().contains("statehouse_commands_total 1"), "{}", one.render());
        assert!(!two.render().contains("statehouse_commands_total 1"), "{}", two.render());
    }
}
