//! The files that a command writes for an operator: a configuration, and what lies beside it.

mod text;

mod write;

pub(crate) use text::ConfigText;
pub(crate) use write::{NewFile, create_all};
