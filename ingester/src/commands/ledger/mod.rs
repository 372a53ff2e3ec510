//! `ingester ledger`: what the ledger speaks for, and how an operator changes or shortens that.
//!
//! A plain load is possible only for times the ledger can speak for. Its mark says since when it can. A table that another
//! tool filled, and a ledger of which rows were deleted, move that time. Each change is one transaction.

mod command;
mod show;

pub(crate) use command::{Command, command};
