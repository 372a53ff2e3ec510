//! The label of a database: whose it is, and in which form it is stored.

use serde::{Deserialize, Serialize};

use crate::store::{Kind, Store, StoreError, Table};

/// Key of the label, in [`Table::Meta`].
pub(super) const LABEL: &[u8] = b"label";

/// Whose database it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) format: u32,
    pub(super) kind: Kind,
    pub(super) instance: String,
}

/// What the label of an accepted database says of its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing is stored yet, not even a label.
    New,
    /// An older format, which this version reads.
    Older,
    /// The format this version writes.
    Current,
}

impl Store {
    /// Refuses a database of another program, kind, instance or of a newer format.
    pub(super) fn check_label(&self, kind: Kind, instance: Option<&str>) -> Result<Form, StoreError> {
        let foreign = |what: String| Err(StoreError::Foreign { dir: self.dir.clone(), what });
        let label = match self.get::<Label>(Table::Meta, LABEL) {
            Err(StoreError::Damaged { what, .. }) => {
                return foreign(format!("its label is damaged or of a newer version: {what}"));
            }
            label => label?,
        };
        match label {
            None if self.db.is_empty() && instance.is_some() => Ok(Form::New),
            None if self.db.is_empty() => foreign("it is empty: its first start was cut short".to_owned()),
            None => foreign("it is a sled database of some other program".to_owned()),
            Some(label) if label.kind != kind => {
                foreign(format!("it belongs to the {:?}, not to the {kind:?}", label.kind).to_lowercase())
            }
            Some(label) if label.format > kind.format() || label.format == 0 => {
                let (found, newest) = (label.format, kind.format());
                foreign(format!("it has format {found}, this version works with format {newest}"))
            }
            Some(label) => match instance {
                Some(instance) if label.instance != instance => {
                    let owner = label.instance;
                    foreign(format!("it belongs to instance {owner}, not to {instance} (instance.name)"))
                }
                _ if label.format == kind.format() => Ok(Form::Current),
                _ => Ok(Form::Older),
            },
        }
    }
}
