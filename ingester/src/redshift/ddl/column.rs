//! A column of a table in Redshift, as its catalog shows it.

use shared::schema::Encoding;

/// A column of a table in Redshift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveColumn {
    pub(crate) name: String,
    /// Its type, as Redshift prints it.
    pub(crate) type_text: String,
    pub(crate) not_null: bool,
    pub(crate) has_default: bool,
    /// How it is stored; None if that was not asked for, or redshift.user may not see it.
    pub(crate) layout: Option<Layout>,
}

/// How a column is stored, and its part in the table's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Its compression; None if this version does not know it.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) distkey: bool,
    /// Its place in the sort key, from 1; 0 if it has none. An interleaved sort key has negative ones too.
    pub(crate) sortkey: i32,
}

impl LiveColumn {
    /// A row needs a value for it.
    pub(super) fn is_required(&self) -> bool {
        self.not_null && !self.has_default
    }
}
