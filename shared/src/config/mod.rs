//! The one configuration file of both services: TOML, checked as a whole before anything is opened.
//!
//! A file and the environment come in; [`Config`] goes out, or every complaint at once, each with its key.

mod load;

mod check;
mod resolve;

mod gone;
pub mod keys;

mod amazon_host;
mod places;
mod table;

mod problems;
mod sections;

mod copy_options;
pub mod pause;

pub use copy_options::CopyOptions;
pub use keys::ENV_PREFIX;
pub use problems::ConfigError;
pub use sections::{
    Acl, Adobe, Archive, Auth, Batch, Config, Encodings, Encryption, FilterRule, Ingester, InstanceSection,
    InvalidText, Log, LogFormat, Logging, Login, Metrics, Quarantine, Redshift, Reset, S3, SchemaSection,
    Secrets, ShutdownSection, Tls,
};
