//! What the producer, the ingester and `state` must spell alike: ids, the S3 layout, the manifest and the seal,
//! the table schema and its DDL, configuration, and the plumbing both services run on.

pub mod admin;
pub mod aws;
pub mod boxed;
pub mod causes;
pub mod clock;
pub mod compress;
pub mod config;
pub mod content;
pub mod egress;
pub mod exit;
pub mod human;
pub mod ids;
pub mod json_fault;
pub mod layout;
pub mod metrics;
pub mod object_store;
pub mod out;
pub mod private;
pub mod report;
pub mod retry;
pub mod schema;
pub mod seal;
pub mod secret;
pub mod shutdown;
pub mod table_name;
pub mod telemetry;
pub mod tls;
