//! Loads batches from S3 into Redshift, each exactly once.
//!
//! ```text
//! feed ──hint──► discover ──seal──► book ──oldest due──► loader ──loaded──► archive
//!                   ▲                                      │
//!      S3 listing ──┘                                      └─► verify in S3 → one transaction in Redshift
//! ```
//! Three tasks share the [`book`] and nothing else: [`discover`] enters what stands in S3, [`loader`] loads it, what
//! waits together with one COPY ([`plan`], [`combine`]), and [`archive`] clears loaded folders away. What S3 says
//! decides which batches there are, the ledger in Redshift decides which of them are loaded, and the book is a memory
//! between the two. Rows that Redshift refuses go into [`quarantine`].

pub mod adopt;
pub mod archive;
pub mod audit;
pub mod book;
pub mod check;
pub mod cli;
pub mod combine;
pub mod confirm;
pub mod ddl;
pub mod discover;
pub mod doubts;
pub mod feed;
pub mod gate;
pub mod identity;
pub mod ledger;
pub mod listing;
pub mod loader;
pub mod pause;
pub mod plan;
pub mod producer;
pub mod quarantine;
pub mod reconcile;
pub mod rows;
pub mod run;
pub mod since;
pub mod trouble;
pub mod verify;
pub mod warehouse;
