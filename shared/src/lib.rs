//! What the producer, the ingester and `state` must spell alike: ids, the S3 layout, the manifest and the seal, the table
//! schema, configuration, and the plumbing both services run on.

pub mod admin;
pub mod telemetry;

pub mod systemd;

pub mod report;

pub mod object_store;

pub mod aws;

pub mod config;

pub mod blocking;
pub mod dirs;
pub mod egress;
pub mod exit;
pub mod seal;

pub mod compress;
pub mod json_fault;
pub mod layout;
pub mod schema;
pub mod table_name;

pub mod content;
pub mod human;
pub mod ids;
pub mod metrics;
pub mod out;
pub mod private;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod tls;

pub mod boxed;
pub mod causes;
pub mod clock;
pub mod lock;
