//! Where a protected value lies in the record.

use std::ops::Range;

use crate::transform::scan::Span;

#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) span: Span,
    /// Which place of the plan it stands in.
    pub(super) site: usize,
    /// It lies in more arrays than are looked into: what it holds is not known.
    pub(super) too_deep: bool,
    /// Where its replacement lies in `Spans::side`, once it has one.
    pub(super) replacement: Range<usize>,
}

impl Found {
    pub(super) fn new(span: Span, site: usize, too_deep: bool) -> Self {
        Self { span, site, too_deep, replacement: 0..0 }
    }
}
