//! A bucket in memory that speaks as much of S3 as the ingester does, so that a hundred thousand folders are listed
//! as fast as S3 lists them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

/// What becomes of requests from some number on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// They are refused.
    Refused,
    /// The first is carried out and answered with a refusal, as if its answer were lost; the others are refused.
    Lost,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    requests: u64,
    lists: u64,
    ends: Option<(u64, Ends)>,
    broken: Option<String>,
    forbidden: Option<String>,
    empty_pages: u64,
    tells_no_length: bool,
    heads: Vec<Parts>,
}

#[derive(Debug, Clone)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl Memory {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let memory = Self { state: Arc::default(), endpoint };
        let served = memory.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let memory = served.clone();
                let answer = service_fn(move |request| {
                    let memory = memory.clone();
                    async move { Ok::<_, Infallible>(memory.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
            }
        });
        memory
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn put(&self, key: &str, content: impl Into<Bytes>) {
        self.state().objects.insert(key.to_owned(), content.into());
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state().objects.remove(key);
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.clone()
    }

    pub(crate) fn set_objects(&self, objects: BTreeMap<String, Bytes>) {
        self.state().objects = objects;
    }

    /// GETs of this object fail as if it passed; None ends that.
    pub(crate) fn break_object(&self, key: Option<String>) {
        self.state().broken = key;
    }

    /// GETs of this object are refused for lack of permission; None ends that.
    pub(crate) fn forbid_object(&self, key: Option<String>) {
        self.state().forbidden = key;
    }

    /// So many LISTs show nothing and say that there is more.
    pub(crate) fn show_empty_pages(&self, many: u64) {
        self.state().empty_pages = many;
    }

    /// Whether GETs come without saying how long they are.
    pub(crate) fn tell_no_length(&self, so: bool) {
        self.state().tells_no_length = so;
    }

    /// From the request after the next `after` on; None ends that.
    pub(crate) fn end(&self, ends: Option<(u64, Ends)>) {
        let mut state = self.state();
        let so_far = state.requests;
        state.ends = ends.map(|(after, ends)| (so_far + after, ends));
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Method, address and headers of the requests since the last call.
    pub(crate) fn heads(&self) -> Vec<Parts> {
        std::mem::take(&mut self.state().heads)
    }

    /// LISTs since the last call.
    pub(crate) fn lists(&self) -> u64 {
        std::mem::take(&mut self.state().lists)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut state = self.state();
        state.requests += 1;
        state.heads.push(head.clone());
        let (number, ends) = (state.requests, state.ends);
        let refused = || answer(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".into());
        match ends {
            Some((after, Ends::Lost)) if number == after + 1 => {
                state.carry_out(&head, body);
                refused()
            }
            Some((after, _)) if number > after => refused(),
            _ => state.carry_out(&head, body),
        }
    }
}

impl State {
    fn carry_out(&mut self, head: &Parts, body: Bytes) -> Response<Body> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let path = decoded(head.uri.path());
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
        let missing = || answer(404, "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".into());
        match head.method {
            Method::GET if key.is_empty() => {
                let query = head.uri.query().unwrap_or_default();
                let parameter = |name: &str| {
                    let found =
                        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name);
                    found.map(|(_, value)| decoded(value)).unwrap_or_default()
                };
                assert_eq!(parameter("list-type"), "2", "{query}");
                // A token is a number, so that no two are equal, and the key it goes on behind.
                let token = parameter("continuation-token");
                let after = token.split_once(':').map(|(_, after)| after.to_owned());
                self.list(&parameter("prefix"), &after.unwrap_or_else(|| parameter("start-after")))
            }
            Method::GET if self.broken.as_ref() == Some(&key) => {
                answer(500, "<Error><Code>InternalError</Code><Message>no</Message></Error>".into())
            }
            Method::GET if self.forbidden.as_ref() == Some(&key) => {
                answer(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".into())
            }
            Method::GET if self.tells_no_length => self.objects.get(&key).map_or_else(missing, |content| {
                let chunks: Vec<_> = content.chunks(64).map(Bytes::copy_from_slice).collect();
                let frames = chunks.into_iter().map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
                Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())
            }),
            Method::GET | Method::HEAD => {
                self.objects.get(&key).map_or_else(missing, |content| answer(200, content.clone()))
            }
            Method::PUT => {
                let from = head.headers.get("x-amz-copy-source").map(|from| decoded(from.to_str().unwrap()));
                let Some(from) = from else {
                    self.objects.insert(key, body);
                    return answer(200, Bytes::new());
                };
                let from = from.trim_start_matches('/').split_once('/').unwrap().1;
                let Some(content) = self.objects.get(from).cloned() else { return missing() };
                self.objects.insert(key, content);
                answer(200, "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>".into())
            }
            Method::DELETE => {
                self.objects.remove(&key);
                answer(204, Bytes::new())
            }
            _ => answer(501, Bytes::new()),
        }
    }

    fn list(&mut self, prefix: &str, after: &str) -> Response<Body> {
        self.lists += 1;
        if let Some(left) = self.empty_pages.checked_sub(1) {
            self.empty_pages = left;
            let token = format!("{left}:{after}");
            let xml = format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            );
            return answer(200, xml.into());
        }
        let from = if after > prefix { after } else { prefix };
        let mut found = self
            .objects
            .range(from.to_owned()..)
            .filter(|(key, _)| key.as_str() > after)
            .take_while(|(key, _)| key.starts_with(prefix));
        let mut xml = String::from("<ListBucketResult>");
        for (key, content) in found.by_ref().take(1000) {
            let size = content.len();
            write!(
                xml,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        write!(xml, "<IsTruncated>{}</IsTruncated></ListBucketResult>", found.next().is_some()).unwrap();
        answer(200, xml.into())
    }
}

fn answer(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
