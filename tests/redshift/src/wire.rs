//! The bytes between a client and a session: messages in, messages out.
//!
//! The loop is our own, because a session must learn at once that its client has gone, also while a statement
//! waits for a lock.

use std::io;

use bytes::BytesMut;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::door::{Door, Entered};

/// A client's connection, with TLS or without.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Socket for S {}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Reads messages.
pub(crate) struct Reader {
    socket: ReadHalf<Box<dyn Socket>>,
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
    socket: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

impl Writer {
    pub(crate) fn put(&mut self, message: &PgWireBackendMessage) -> io::Result<()> {
        message.encode(&mut self.buffer).map_err(invalid)
    }

    /// A message the library does not know.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(&mut self.buffer).await
    }
}

/// SSLRequest: its length, and the number that stands in place of a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Answers a client that begins with SSLRequest; says whether it speaks TLS from then on.
pub(crate) async fn secure(mut socket: TcpStream, door: &Door) -> io::Result<(Box<dyn Socket>, bool)> {
    let _ = socket.set_nodelay(true);
    let mut begin = [0; 8];
    let mut looks = 0;
    loop {
        looks += 1;
        match socket.peek(&mut begin).await? {
            8 => break,
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if looks > 10_000 => return Err(io::ErrorKind::TimedOut.into()),
            _ => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
    if begin != SSL_REQUEST {
        return Ok((Box::new(socket), false));
    }
    socket.read_exact(&mut begin).await?;
    let tls = door.tls();
    door.saw(Entered::AskedForTls(tls.is_some()));
    let Some(tls) = tls else {
        socket.write_all(b"N").await?;
        return Ok((Box::new(socket), false));
    };
    socket.write_all(b"S").await?;
    match TlsAcceptor::from(tls).accept(socket).await {
        Ok(socket) => Ok((Box::new(socket), true)),
        Err(error) => {
            door.saw(Entered::HandshakeFailed);
            Err(error)
        }
    }
}

/// Takes a connection apart.
pub(crate) fn split(socket: Box<dyn Socket>) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(socket);
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
