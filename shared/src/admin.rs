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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::boxed::Boxed;
use crate::clock::Clock;
use crate::exit::Failure;
use crate::metrics::{self, Page};
use crate::shutdown::Shutdown;

/// Connections at once; more of them wait.
const CONNECTIONS: usize = 16;
/// A client must send the head of its request within this time or is disconnected.
const HEAD_TIME: Duration = Duration::from_secs(10);

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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::exit::Exit;

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
}
