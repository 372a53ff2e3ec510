//! The address of a server: taken, or tried by a check.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::boxed::Boxed;
use crate::exit::{Exit, io_exit};
use crate::report::Step;

/// How long [`try_out`] waits for the figures of whoever has the address.
const ASK_TIME: Duration = Duration::from_secs(2);
/// As much of them is read.
const FIGURES_BYTES: u64 = 64 << 10;

/// Who has the address that the figures of a service are to be served at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// Nobody: it can be listened on.
    Free,
    /// A server whose figures have the prefix that was asked for.
    Ours,
    /// Another program.
    Other,
}

/// Tries to listen, as a server does, and asks whoever has the address. `prefix` begins the names of the service's figures.
fn try_out<'a>(listen: &'a str, prefix: &'a str) -> Boxed<'a, io::Result<Listening>> {
    Box::pin(async move {
        match bind(listen).await {
            Ok(_) => Ok(Listening::Free),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let shown = tokio::time::timeout(ASK_TIME, figures(listen)).await;
                let name = format!("\n{prefix}_");
                let ours = matches!(shown, Ok(Ok(text)) if text.contains(&name));
                Ok(if ours { Listening::Ours } else { Listening::Other })
            }
            Err(error) => Err(error),
        }
    })
}

/// [`try_out`] as a step of a check; `key` names the address, `running` is the process of the service, if it runs.
pub fn try_listen<'a>(
    (key, listen): (&'a str, &'a str),
    prefix: &'a str,
    running: Option<u32>,
) -> Boxed<'a, Step> {
    Box::pin(async move {
        if listen.is_empty() {
            return Step::Skipped(format!("{key} is empty: the service serves none"));
        }
        let taken = |by: &str| {
            let what = format!("{key}: {listen} is taken by {by}, and the service would run without metrics");
            Err((Exit::Unavailable, format!("{what}; choose another port, or stop that program")))
        };
        Step::Tried(match (try_out(listen, prefix).await, running) {
            (Ok(Listening::Free), _) => Ok(format!("{listen} is free")),
            (Ok(Listening::Ours), Some(pid)) => {
                Ok(format!("{listen} is held by the running service, process {pid}"))
            }
            (Ok(Listening::Ours), None) => taken("a service of another configuration"),
            (Ok(Listening::Other), _) => taken("another program"),
            (Err(error), _) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Err((Exit::Config, format!("{key}: {listen} is no address of this machine")))
            }
            (Err(error), _) => Err((io_exit(&error), format!("{key}: cannot listen on {listen}: {error}"))),
        })
    })
}

async fn figures(listen: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(listen).await?;
    // Named as it is listened on: a server on loopback answers to no other name.
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(FIGURES_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(super) async fn bind(listen: &str) -> io::Result<TcpListener> {
    let address: SocketAddr = listen.parse().map_err(io::Error::other)?;
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of figures that have the prefix `test`, and of nothing else.
    async fn started() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _request = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n# HELP\ntest_rows_total 3\n").await;
            }
        });
        address
    }

    #[tokio::test]
    async fn an_address_is_free_or_held_by_a_service_of_the_same_kind_or_by_another_program() {
        let listen = started().await.to_string();
        assert_eq!(try_out(&listen, "test").await.unwrap(), Listening::Ours);
        assert_eq!(try_out(&listen, "another").await.unwrap(), Listening::Other);
        assert_eq!(try_out("127.0.0.1:0", "test").await.unwrap(), Listening::Free);
        // An address of the documentation's: no machine has it.
        let error = try_out("192.0.2.1:9464", "test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
