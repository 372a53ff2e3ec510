//! The label of a database: whose it is, and in which form it is stored.

use serde::{Deserialize, Serialize};

pub(super) const LABEL: &[u8] = b"label";

/// What a database is for; one is not mistaken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The producer's log.
    Producer,
    /// The ingester's load store.
    Ingester,
}

impl Kind {
    /// The key of the configuration that names its directory.
    pub(super) fn dir_key(self) -> &'static str {
        match self {
            Self::Producer => "log.dir",
            Self::Ingester => "ingester.dir",
        }
    }

    /// The format this program writes and the newest it reads. Opening turns a log of format 1 into one of format 2.
    pub(super) fn format(self) -> u32 {
        match self {
            Self::Producer => 2,
            Self::Ingester => 1,
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) format: u32,
    pub(super) kind: Kind,
    pub(super) instance: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing is stored yet, not even a label.
    New,
    /// An older format, which this version reads.
    Older,
    Current,
}

impl Label {
    /// The form, or why the database is refused. Without `instance` that of any instance is accepted, but no empty one.
    pub(super) fn check(
        label: Option<Self>,
        is_empty: bool,
        kind: Kind,
        instance: Option<&str>,
    ) -> Result<Form, String> {
        let Some(Self { format, kind: found, instance: owner }) = label else {
            return match instance {
                Some(_) if is_empty => Ok(Form::New),
                None if is_empty => Err("it is empty: its first start was cut short".to_owned()),
                _ => Err("it is a sled database of some other program".to_owned()),
            };
        };
        let newest = kind.format();
        if found != kind {
            return Err(format!("it belongs to the {found:?}, not to the {kind:?}").to_lowercase());
        }
        if format > newest || format == 0 {
            return Err(format!("it has format {format}, this version works with format {newest}"));
        }
        match instance.filter(|instance| *instance != owner) {
            Some(instance) => {
                Err(format!("it belongs to instance {owner}, not to {instance} (instance.name)"))
            }
            None if format == newest => Ok(Form::Current),
            None => Ok(Form::Older),
        }
    }
}
