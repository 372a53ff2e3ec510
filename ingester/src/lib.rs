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

pub mod cli;
pub mod run;
pub mod commands;
pub mod archive;
pub mod discover;
pub mod load;
pub mod quarantine;
pub mod facts;
pub mod load_store;
pub mod producer_link;
pub mod identity;
pub mod redshift;
pub mod failure;
