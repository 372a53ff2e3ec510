//! The commands beside `ingester run`. Each opens what it needs and ends; cut short, it is repeated.

pub(crate) mod check;
pub(crate) mod ddl;
pub(crate) mod ledger;
pub(crate) mod reconcile;
pub(crate) mod audit;
pub(crate) mod adopt;
pub(crate) mod pause;
pub(crate) mod replay;
pub(crate) mod forget;
pub(crate) mod connect;
pub(crate) mod terminal;
