//! The bytes between a client and a session: messages in, messages out.
//!
//! The loop is our own, because a session must learn at once that its client has gone, also while a statement
//! waits for a lock.

use std::io;

use bytes::BytesMut;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Reads messages.
pub(crate) struct Reader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    pub(crate) context: DecodeContext,
}

impl Reader {
    /// The next message, or `None` when the client has closed.
    pub(crate) async fn next(&mut self) -> io::Result<Option<PgWireFrontendMessage>> {
        loop {
            if let Some(message) =
                PgWireFrontendMessage::decode(&mut self.buffer, &self.context).map_err(invalid)?
            {
                return Ok(Some(message));
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes messages; they leave with `flush`.
pub(crate) struct Writer {
    socket: OwnedWriteHalf,
    buffer: BytesMut,
}

impl Writer {
    pub(crate) fn put(&mut self, message: &PgWireBackendMessage) -> io::Result<()> {
        message.encode(&mut self.buffer).map_err(invalid)
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(&mut self.buffer).await
    }
}

/// Takes a connection apart.
pub(crate) fn split(socket: TcpStream) -> (Reader, Writer) {
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.into_split();
    let reader =
        Reader { socket: read, buffer: BytesMut::with_capacity(8192), context: DecodeContext::default() };
    (reader, Writer { socket: write, buffer: BytesMut::with_capacity(8192) })
}

/// Messages of a client whose start-up is over, read ahead of the statements.
pub(crate) struct Inbox {
    messages: mpsc::UnboundedReceiver<PgWireFrontendMessage>,
    task: JoinHandle<()>,
}

impl Inbox {
    pub(crate) fn new(mut reader: Reader) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = reader.next().await {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Self { messages, task }
    }

    pub(crate) async fn next(&mut self) -> Option<PgWireFrontendMessage> {
        self.messages.recv().await
    }

    /// Ends when the client has gone. Must not be called again afterwards.
    pub(crate) async fn gone(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}
