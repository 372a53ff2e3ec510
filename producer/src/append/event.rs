//! What the thread receives: records and sessions of the stream, and reports of what S3 has confirmed.

use std::sync::Arc;

use state::log::{Chosen, Form, Upload};
use tokio::sync::oneshot;

use crate::append::decoded::Decoded;
use crate::append::tapped::TappedBlock;

/// What a connection sends, in the order of the stream. First the connection's number, from 0.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// The connection of this number is about to be read.
    Started(u8),
    /// Records of it, decoded.
    Block(u8, Block),
    /// It is no longer read, and why.
    Ended(u8, String),
    /// Nothing more comes: the open file is closed and the batch sealed.
    Complete,
}

/// Decoded records, in the order they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The CSV lines of all rows.
    pub rows: Vec<u8>,
    /// What each record became.
    pub records: Vec<Decoded>,
    /// What all rows have in common.
    pub form: Arc<Form>,
    /// What somebody who taps is shown of them; None while nobody does.
    pub(crate) tapped: Option<Box<TappedBlock>>,
}

/// What the uploader reports. Each report is answered when the log has noted it.
#[derive(Debug)]
pub enum UploadReport {
    /// S3 confirmed a file.
    FileUploaded(u64, Upload, oneshot::Sender<()>),
    /// S3 confirmed a seal.
    BatchPublished(u64, oneshot::Sender<()>),
    /// These rejects are uploaded next.
    RejectsChosen(Chosen, oneshot::Sender<()>),
    /// S3 confirmed these rejects.
    RejectsUploaded(Chosen, oneshot::Sender<()>),
}
