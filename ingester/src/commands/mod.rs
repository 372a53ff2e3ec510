//! The commands beside `ingester run`.

pub(crate) mod check;
pub(crate) mod ddl;
pub(crate) mod reconcile;
pub(crate) mod audit;
pub(crate) mod adopt;
pub(crate) mod pause;
pub(crate) mod replay;
pub(crate) mod ledger;
pub(crate) mod confirm;
pub(crate) mod since;
