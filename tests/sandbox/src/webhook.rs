//! Where alerts are sent in a sandbox: keeps every request, and answers as it is told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// Nothing, for ever.
    Silence,
}

/// One request that was answered with 2xx.
#[derive(Debug, Clone)]
pub struct Taken {
    /// When it came.
    pub at: Instant,
    /// Where it went to.
    pub path: String,
    /// Its JSON; null when it is none.
    pub body: Value,
}

/// A server for webhooks on a port of its own.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    answer: Answer,
    taken: Vec<Taken>,
    refused: usize,
}

impl Webhook {
    /// Starts it; it takes everything.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Inner { answer: Answer::Status(200), taken: Vec::new(), refused: 0 };
        let inner = Arc::new(Mutex::new(inner));
        let shared = inner.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = shared.clone();
                let answering = service_fn(move |request| answer(request, inner.clone()));
                // A client that goes away is none of its business.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answering));
            }
        });
        Ok(Self { address, inner, serving })
    }

    /// The address of a path, with its slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        self.inner().answer = answer;
    }

    /// Every request to a path that was taken so far.
    #[must_use]
    pub fn taken(&self, path: &str) -> Vec<Taken> {
        self.inner().taken.iter().filter(|taken| taken.path == path).cloned().collect()
    }

    /// How many requests were not answered with 2xx.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.inner().refused
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    inner: Arc<Mutex<Inner>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (at, path) = (Instant::now(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let status = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.answer {
            Answer::Status(status) if (200..300).contains(&status) => {
                inner.taken.push(Taken { at, path, body });
                Some(status)
            }
            Answer::Status(status) => {
                inner.refused += 1;
                Some(status)
            }
            Answer::Silence => {
                inner.refused += 1;
                None
            }
        }
    };
    let Some(status) = status else { return std::future::pending().await };
    let mut response = Response::new(Full::new(Bytes::from_static(b"said by the stand-in")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}
