//! The commands beside `ingester run`.

pub mod check;
pub mod ddl;
pub mod reconcile;
pub mod audit;
pub mod adopt;
pub mod replay;
pub mod ledger;
pub mod confirm;
pub mod since;
