//! S3, by `s3s-fs`: objects are files below a folder, requests must be signed with a key that is known. Before the store
//! stands a layer that refuses what the policies of `deploy/` do not allow, counts requests and lets them go wrong.

pub mod access;
mod address;
mod faults;

mod etags;
mod listing;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use access::Access;
use faults::Asked;
pub use faults::{Fault, Faults, Operation, Refusal, Requests, Side};

/// The access key id of tests, which may do everything. Programs have others ([`access::key_of`]).
pub const ACCESS_KEY: &str = "sandbox";
/// The secret of every key.
pub const SECRET_KEY: &str = "sandbox-secret";
/// The only bucket.
pub const BUCKET: &str = "livestream";
/// Its region.
pub const REGION: &str = "eu-central-1";

/// The running store. Dropping it stops it; the objects stay.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    accepting: JoinHandle<()>,
    faults: Faults,
    access: Access,
}

impl S3 {
    /// Serves the objects below `root`, on a free port.
    ///
    /// # Errors
    /// When the folder cannot be made or no port is free.
    pub fn start(root: &Path) -> BoxFuture<'_, anyhow::Result<Self>> {
        // Behind a pointer, so that it is compiled here and not in each test.
        Box::pin(Self::starting(root))
    }

    async fn starting(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root.join(BUCKET))?;
        let files = FileSystem::new(root).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(etags::WithEtags { files, root: root.to_owned() });
        let mut known = SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY);
        for key in access::keys() {
            known.register(key, SECRET_KEY.into());
        }
        service.set_auth(known);
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("S3 cannot listen")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (faults, access) = (Faults::default(), Access::default());
        let (met, rules) = (faults.clone(), access.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let (service, faults, rules) = (service.clone(), met.clone(), rules.clone());
                let answer = service_fn(move |request| {
                    answer(request, service.clone(), faults.clone(), rules.clone())
                });
                tokio::spawn(async move {
                    // A client that is killed breaks its connection, and so does a fault: nothing to say about it.
                    let _ = Builder::new().serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Ok(Self { endpoint, accepting, faults, access })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The faults to come.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Who may do what, and what was refused.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// How often each kind of request came so far; a client's own repetitions count.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.faults.requests()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
        let refused = self.access.take_refused();
        assert!(
            refused.is_empty() || std::thread::panicking(),
            "S3 refused what a policy of deploy/ or the bucket does not allow:\n{}",
            refused.join("\n")
        );
    }
}

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

type Answer = Result<Response<Body>, Cut>;

async fn answer(request: Request<Incoming>, service: S3Service, faults: Faults, access: Access) -> Answer {
    if let Some(words) = address::wrong(&request) {
        let method = request.method().clone();
        let _ = request.into_body().collect().await;
        let mut response = refuse(words, &method);
        response.headers_mut().insert("x-amz-bucket-region", header::HeaderValue::from_static(REGION));
        return Ok(response);
    }
    let asked = Asked::of(&request);
    if !access.allows(&request, &asked) {
        let method = request.method().clone();
        let _ = request.into_body().collect().await;
        return Ok(refuse(Refusal::AccessDenied.words(), &method));
    }
    let Some(side) = faults.meet(&asked) else {
        let (method, signer) = (request.method().clone(), access::signer(&request).unwrap_or_default());
        let answer = carry_out(&service, request.map(Body::from)).await?;
        // As S3 does: who may not list is not told what is missing.
        if answer.status() == StatusCode::NOT_FOUND && !access.may_list(&signer) {
            return Ok(refuse(Refusal::AccessDenied.words(), &method));
        }
        return Ok(answer);
    };
    // Taken in first, so that a refusal is read and not met by a client that still writes.
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let method = head.method.clone();
    let request = Request::from_parts(head, Body::from(body));
    match side {
        Side::Cut => Err(Cut),
        Side::Refused(refusal) => Ok(refuse(refusal.words(), &method)),
        Side::AppliedThenLost => {
            // To its end, also when the client goes first.
            let _ = tokio::spawn(async move { carry_out(&service, request).await.map(drop) }).await;
            Err(Cut)
        }
        Side::Held(time) => {
            let late = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                carry_out(&service, request).await
            });
            late.await.unwrap_or(Err(Cut))
        }
        Side::Slow(time) => {
            tokio::time::sleep(time).await;
            carry_out(&service, request).await
        }
        Side::CutBody => {
            let answer = carry_out(&service, request).await?;
            if method == Method::GET { cut_in_the_middle(answer).await } else { Err(Cut) }
        }
    }
}

async fn carry_out(service: &S3Service, request: Request<Body>) -> Answer {
    service.call(request).await.map_err(|_| Cut)
}

fn refuse((status, code, message): (u16, &str, &str), method: &Method) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(xml) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/xml"));
    response
}

/// The head as it was, with the length of the whole, and half of the body.
async fn cut_in_the_middle(answer: Response<Body>) -> Answer {
    let (head, body) = answer.into_parts();
    let whole = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let half = whole.slice(..whole.len() / 2);
    let pieces = stream::unfold(0, move |step| {
        let half = half.clone();
        async move {
            let piece: Result<Frame<Bytes>, Cut> = match step {
                0 => Ok(Frame::data(half)),
                _ => {
                    // An error ends the connection at once; what hyper holds by then would be lost with it.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(Cut)
                }
            };
            (step < 2).then_some((piece, step + 1))
        }
    });
    Ok(Response::from_parts(head, Body::http_body_unsync(StreamBody::new(pieces))))
}

#[cfg(test)]
#[path = "s3/tests.rs"]
mod tests;
