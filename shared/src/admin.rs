//! The HTTP server of a service, for monitoring: `/metrics` for Prometheus, `/healthz` to see that the process lives. It
//! shows figures and names of filters and columns, never a record or a secret.
//!
//! It is hyper without a router: two paths are one `match`, and `axum` would be six more crates to build.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::boxed::Boxed;
use crate::clock::Clock;
use crate::exit::{Exit, Failure, io_exit};
use crate::metrics::{self, Page};
use crate::report::Step;
use crate::shutdown::Shutdown;

/// Connections at once; more of them wait.
const CONNECTIONS: usize = 16;
/// A client must send the head of its request within this time or is disconnected.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long [`try_out`] waits for the figures of whoever has the address.
const ASK_TIME: Duration = Duration::from_secs(2);
/// As much of them is read.
const FIGURES_BYTES: u64 = 64 << 10;

type MakePage = Arc<dyn Fn() -> Result<Page, Failure> + Send + Sync>;

/// Serves the page that `page` makes until shutdown. An empty `listen` serves nothing. A service works without this
/// server too, so an address that cannot be bound is logged as an error and nothing more.
pub fn serve<P>(listen: String, page: P, clock: Clock, shutdown: Shutdown) -> Boxed<'static, ()>
where
    P: Fn() -> Result<Page, Failure> + Send + Sync + 'static,
{
    Box::pin(accept(listen, Arc::new(page), clock, shutdown))
}

async fn accept(listen: String, page: MakePage, clock: Clock, shutdown: Shutdown) {
    if listen.is_empty() {
        return;
    }
    let listener = match bind(&listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listen, %error, "no metrics: the address of [metrics] cannot be listened on");
            return;
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(url = format!("http://{address}/metrics"), "metrics");
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Some(Ok(place)) = shutdown.until(places.clone().acquire_owned()).await else { return };
        let stream = match shutdown.until(listener.accept()).await {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                // Probably out of file descriptors; retry after a pause.
                tracing::warn!(%error, "metrics: cannot accept");
                shutdown.until(clock.sleep(Duration::from_millis(100))).await;
                continue;
            }
        };
        let (page, shutdown) = (page.clone(), shutdown.clone());
        tokio::spawn(async move {
            let answering = service_fn(|request| {
                let page = page.clone();
                async move { Ok::<_, Infallible>(answer(&request, page).await) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), answering);
            if let Some(Err(error)) = shutdown.until(serving).await {
                tracing::debug!(%error, "metrics: the client disconnected");
            }
            drop(place);
        });
    }
}

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

/// Tries to listen, as [`serve`] does, and asks whoever has the address. `prefix` begins the names of the service's figures.
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
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(FIGURES_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn bind(listen: &str) -> io::Result<TcpListener> {
    let address: SocketAddr = listen.parse().map_err(io::Error::other)?;
    TcpListener::bind(address).await
}

async fn answer<B>(request: &Request<B>, page: MakePage) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => match tokio::task::spawn_blocking(move || page()).await {
            Ok(Ok(page)) => {
                let mut response = plain(StatusCode::OK, page.text());
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Ok(Err(failure)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{failure}\n")),
            Err(panic) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{panic}\n")),
        },
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(page: fn() -> Result<Page, Failure>) -> (SocketAddr, Shutdown) {
        // A free port: the listener that found it is closed at once.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let shutdown = Shutdown::new();
        tokio::spawn(serve(address.to_string(), page, Clock::system(), shutdown.clone()));
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        (address, shutdown)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn figures_are_served_where_they_are_asked_for_and_nothing_else() {
        let (address, shutdown) = started(|| {
            let mut page = Page::new("test");
            page.counter("rows", "Rows", 3);
            Ok(page)
        })
        .await;
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains(metrics::CONTENT_TYPE) && answer.contains("\ntest_rows_total 3\n"),
            "{answer}"
        );
        assert!(ask(address, "GET /healthz").await.contains("alive"));
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
        shutdown.stop();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn figures_that_cannot_be_had_are_an_error_that_says_why() {
        let broken = || Err(Failure::new(Exit::Io, anyhow::anyhow!("the disk is gone")));
        let (address, _shutdown) = started(broken).await;
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("the disk is gone"), "{answer}");
    }

    #[tokio::test]
    async fn an_address_is_free_or_held_by_a_service_of_the_same_kind_or_by_another_program() {
        let (address, _shutdown) = started(|| {
            let mut page = Page::new("test");
            page.counter("rows", "Rows", 3);
            Ok(page)
        })
        .await;
        let listen = address.to_string();
        assert_eq!(try_out(&listen, "test").await.unwrap(), Listening::Ours);
        assert_eq!(try_out(&listen, "another").await.unwrap(), Listening::Other);
        assert_eq!(try_out("127.0.0.1:0", "test").await.unwrap(), Listening::Free);
        // An address of the documentation's: no machine has it.
        let error = try_out("192.0.2.1:9464", "test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
