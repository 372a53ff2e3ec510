//! The alerts of both services: one list. The table in docs/OPERATIONS.md and `deploy/prometheus/rules.yml` are printed from
//! it, and a test keeps them the same.

mod producer;

mod ingester;
mod figures;

mod rule;

#[cfg(test)]
mod tests;

pub use figures::IngesterFigures;
pub use ingester::INGESTER;
pub use producer::{PRODUCER, ProducerFigures};
pub(crate) use rule::Found;
pub use rule::{About, Level, Rule, Seen, Watched};

/// What is known of every rule: those of the producer, then those of the ingester.
#[must_use]
pub fn all() -> Vec<(&'static str, &'static About)> {
    let producer = PRODUCER.iter().map(|rule| (ProducerFigures::SERVICE, &rule.about));
    let ingester = INGESTER.iter().map(|rule| (IngesterFigures::SERVICE, &rule.about));
    producer.chain(ingester).collect()
}
