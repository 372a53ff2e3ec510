//! The one configuration file of both services: TOML, checked as a whole before anything is opened.
//!
//! A file and the environment come in; [`Config`] goes out, or every complaint at once, each with its key. No crate of
//! layered configuration does this: they stop at the first wrong value, and do not know the key that was meant.

mod file;

mod reload;

mod load;

mod check;
mod resolve;

mod places;
mod protected;

mod problems;

pub mod keys;

mod key;
mod source;

mod choices;
mod copy_options;
pub mod pause;

pub use choices::{
    Acl, AlertKind, Archive, Auth, Encodings, Encryption, InvalidText, KeepRejects, LogFormat, Login,
    OnSchemaChange, Reset, Secrets, Severity, Spelling, Tls,
};
pub use copy_options::{CopyOptions, CopyValue};
pub use file::ConfigFile;
pub use keys::{
    Adobe, AlertTarget, Alerts, Batch, Config, ENV_PREFIX, FilterRule, Ingester, InstanceSection, Key, Log,
    Logging, Metrics, Protect, Quarantine, Redshift, Rejects, S3, SchemaSection, ShutdownSection, Type,
};
pub use problems::ConfigError;
pub use reload::Reloaded;
