//! Livestream: who may read ([`admission`]), what each reader gets next ([`group`], by the order
//! that [`delivery`] says), and the thread that writes and
//! compresses it ([`feed`]). Source: the Livestream guide of AdobeDocs/analytics-2.0-apis (index, faq,
//! troubleshooting).

pub(crate) mod admission;
pub(crate) mod delivery;
pub(crate) mod doors;
mod feed;
pub(crate) mod group;
mod walk;
