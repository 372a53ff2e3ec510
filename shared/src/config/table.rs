//! The columns of the table, as the configuration says them.

use std::ops::RangeInclusive;

use crate::config::keys::SchemaSection;
use crate::config::problems::unreadable;
use crate::exit::{Exit, Failure};
use crate::schema::{EVENTS, Schema};

impl SchemaSection {
    /// The events that are columns of the built-in schema, from `"1..1000"`; None if it is no such range.
    pub fn event_range(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self.events.split_once("..")?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1 <= first && first <= last && last <= 1000).then_some(first..=last)
    }

    /// The columns of the table: those of `schema.file`, or the built-in ones, or both.
    pub fn load(&self) -> Result<Schema, Failure> {
        let built_in = Schema::built_in(self.event_range().unwrap_or(EVENTS));
        if self.file.as_os_str().is_empty() {
            return Ok(built_in);
        }
        let text =
            std::fs::read_to_string(&self.file).map_err(|error| unreadable("schema", &self.file, &error))?;
        Schema::from_toml_on(&built_in, &text, &self.file.display().to_string())
            .map_err(|error| Failure::new(Exit::Config, error))
    }
}
