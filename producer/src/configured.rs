//! The transform that follows from the configuration: at a start, at a reload, and for the commands.

use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::schema::Schema;

use crate::transform::{Filter, Transform};

/// The transform a configuration asks for.
pub fn transform(config: &Config, schema: &Schema) -> Result<Transform, Failure> {
    let filters = config.filters.iter().map(Filter::of).collect::<Result<Vec<_>, _>>();
    let transform = filters.and_then(|filters| Transform::new(schema, &filters));
    let transform = transform.and_then(|transform| transform.with_protection(&config.protect, schema));
    let transform = transform.map_err(|error| Failure::new(Exit::Config, error))?;
    let transform = transform.with_rejects(config.kept_rejects());
    let transform = transform.with_invalid_text(config.adobe.invalid_text);
    Ok(transform.with_instance(&config.instance.name.to_string()))
}

/// The same for a producer that runs: its rows have this in place of the id of their batch, and it counts what they are like.
pub(crate) fn to_run(transform: Transform, schema: &Schema, batch_placeholder: &str) -> Transform {
    transform.with_batch_placeholder(batch_placeholder).with_tally(schema, false)
}
