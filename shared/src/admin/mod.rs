//! The HTTP server of a service, for people and monitoring. It shows the page (`/`, with its data below `/api/`), figures
//! for Prometheus (`/metrics`), that the process lives (`/healthz`) and whether it is ready (`/readyz`). It changes nothing
//! and shows names of batches, files, filters and columns, never a record or a secret. Nothing here survives a restart.

mod server;
mod access;
mod site;
mod listen;

pub use listen::try_listen;
pub use server::serve;
pub use site::{File, Site};
