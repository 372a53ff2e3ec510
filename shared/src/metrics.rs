//! What a service shows to Prometheus, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = [(&'static str, String); 1];

/// One page of figures, made anew for each scrape.
#[derive(Debug)]
pub struct Page {
    registry: Registry,
}

impl Page {
    /// An empty page; every name on it begins with `prefix` and `_`.
    pub fn new(prefix: &str) -> Self {
        Self { registry: Registry::with_prefix(prefix) }
    }

    /// Adds what only ever grows; `_total` is appended to the name. `help` without a full stop at its end.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstCounter::new(value));
    }

    /// Adds what goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.registry.register(name, help, ConstGauge::new(value));
    }

    /// Adds counters that differ in one label.
    pub fn counters<L: Into<String>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        let family = Family::<Label, Counter>::default();
        for (value, count) in values {
            family.get_or_create(&[(label, value.into())]).inc_by(count);
        }
        self.registry.register(name, help, family);
    }

    /// Adds counters that differ in two labels.
    pub fn counters_by(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; 2],
        values: impl IntoIterator<Item = ([String; 2], u64)>,
    ) {
        let family = Family::<Vec<(&'static str, String)>, Counter>::default();
        for (values, count) in values {
            let labels: Vec<_> = labels.into_iter().zip(values).collect();
            family.get_or_create(&labels).inc_by(count);
        }
        self.registry.register(name, help, family);
    }

    /// Adds gauges that differ in one label.
    pub fn gauges<L: Into<String>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) {
        let family = Family::<Label, Gauge<f64, AtomicU64>>::default();
        for (value, level) in values {
            family.get_or_create(&[(label, value.into())]).set(level);
        }
        self.registry.register(name, help, family);
    }

    /// The page as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_name_meaning_and_value_of_each_figure() {
        let mut page = Page::new("producer");
        page.counter("records", "Records received", 7);
        page.gauge("log_bytes", "Bytes on disk", 1.5);
        page.counters("filtered", "By filter", "filter", [("a \"b\"", 2), ("c", 3)]);
        let text = page.text();
        for line in [
            "# HELP producer_records Records received.",
            "# TYPE producer_records counter",
            "producer_records_total 7",
            "# TYPE producer_log_bytes gauge",
            "producer_log_bytes 1.5",
            r#"producer_filtered_total{filter="a \"b\""} 2"#,
            r#"producer_filtered_total{filter="c"} 3"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
