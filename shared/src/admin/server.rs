//! Accepts connections and answers requests. It is hyper without a router: a handful of paths are one `match`, and `axum`
//! would be six more crates to build.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::access::{Access, Verdict};
use super::listen::bind;
use super::site::{File, Site};
use crate::boxed::Boxed;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::metrics;
use crate::secret::Secret;
use crate::shutdown::Shutdown;

/// Connections at once; more of them wait. A browser keeps one or two, and ten may look.
const CONNECTIONS: usize = 64;
/// A client must send the head of its request within this time, and a form within as much again, or is disconnected.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// After this time a connection is closed behind the answer under way, so that a client that takes nothing in does not keep
/// its place. A browser makes another.
const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// Bytes of the form that brings the token.
const FORM_BYTES: usize = 1 << 10;

/// Nothing is loaded from elsewhere, no other site may show the page, and no address of it is told.
const SAFE: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

type Answer = Response<Full<Bytes>>;

/// Serves `site` until shutdown, to whom brings the `token` of the moment. An empty `listen` serves nothing. A service works without this server too, so an address
/// that cannot be bound is logged as an error and nothing more.
pub fn serve(
    listen: String,
    token: watch::Receiver<Secret>,
    site: impl Site,
    clock: Clock,
    shutdown: Shutdown,
) -> Boxed<'static, ()> {
    Box::pin(accept(listen, token, Arc::new(site), clock, shutdown))
}

async fn accept(
    listen: String,
    token: watch::Receiver<Secret>,
    site: Arc<dyn Site>,
    clock: Clock,
    shutdown: Shutdown,
) {
    if listen.is_empty() {
        return;
    }
    let bound = bind(&listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(listen, %error, "no metrics: the address of [metrics] cannot be listened on");
            return;
        }
    };
    let access = move || Access::new(token.borrow().clone(), address);
    if access().is_open() {
        tracing::info!(
            page = format!("http://{address}/"),
            metrics = format!("http://{address}/metrics"),
            "listening"
        );
    } else {
        tracing::info!(
            metrics = format!("http://{address}/metrics"),
            "listening; the page needs metrics.token_file, since this is no loopback address"
        );
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
        let (site, access, shutdown) = (site.clone(), access.clone(), shutdown.clone());
        tokio::spawn(async move {
            let answering = service_fn(|request| {
                let (site, access) = (site.clone(), access.clone());
                async move { Ok::<_, Infallible>(safe(answer(request, site, &access()).await)) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), answering);
            if let Some(Err(error)) = shutdown.until(bounded(serving)).await {
                tracing::debug!(%error, "metrics: the client disconnected");
            }
            drop(place);
        });
    }
}

/// The connection, for [`CONNECTION_TIME`] and the answer that is under way then, which has [`HEAD_TIME`].
async fn bounded<S>(connection: http1::Connection<TokioIo<TcpStream>, S>) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(connection);
    if let Ok(ended) = tokio::time::timeout(CONNECTION_TIME, connection.as_mut()).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(HEAD_TIME, connection).await.unwrap_or(Ok(()))
}

async fn answer(request: Request<Incoming>, site: Arc<dyn Site>, access: &Access) -> Answer {
    let path = request.uri().path().to_owned();
    if request.method() == Method::POST && path == "/login" {
        return login(request, site.as_ref(), access).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return with(plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"), ALLOW, "GET, HEAD");
    }
    match path.as_str() {
        "/metrics" => figures(site).await,
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/readyz" => ready(&site.missing()),
        "/" => {
            let query = request.uri().query().unwrap_or_default();
            let token = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token");
            match (token, access.judge(request.headers())) {
                // Not left in the address, where it would be seen and kept.
                (Some((_, token)), _) if access.is_token(&token) => enter(access),
                (_, Verdict::Granted) => shown(site.file("/")),
                (token, Verdict::NeedsToken) => ask(site.as_ref(), token.is_some()),
                (_, Verdict::Refused(why)) => plain(StatusCode::FORBIDDEN, format!("{why}\n")),
            }
        }
        path if path.starts_with("/api/") => match access.judge(request.headers()) {
            Verdict::Granted => data(site.as_ref(), path).await,
            Verdict::NeedsToken => {
                refusal(StatusCode::UNAUTHORIZED, "the token of metrics.token is missing or wrong")
            }
            Verdict::Refused(why) => refusal(StatusCode::FORBIDDEN, &why),
        },
        path => shown(site.file(path)),
    }
}

async fn figures(site: Arc<dyn Site>) -> Answer {
    match tokio::task::spawn_blocking(move || site.figures()).await {
        Ok(Ok(page)) => with(plain(StatusCode::OK, page.text()), CONTENT_TYPE, metrics::CONTENT_TYPE),
        Ok(Err(failure)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{failure}\n")),
        Err(panic) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{panic}\n")),
    }
}

fn ready(missing: &[String]) -> Answer {
    if missing.is_empty() {
        plain(StatusCode::OK, "ready\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready:\n{}\n", missing.join("\n")))
    }
}

async fn data(site: &dyn Site, path: &str) -> Answer {
    match site.data(path).await {
        None => refusal(StatusCode::NOT_FOUND, "there are /api/status, /api/history and /api/batch/ID"),
        Some(Ok(json)) => json_of(StatusCode::OK, json),
        Some(Err(failure)) => {
            let status = match failure.exit() {
                Exit::Usage => StatusCode::BAD_REQUEST,
                Exit::NoInput => StatusCode::NOT_FOUND,
                Exit::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refusal(status, &failure.to_string())
        }
    }
}

/// The form has sent a token.
async fn login(request: Request<Incoming>, site: &dyn Site, access: &Access) -> Answer {
    let body = Limited::new(request.into_body(), FORM_BYTES).collect();
    let Ok(Ok(body)) = tokio::time::timeout(HEAD_TIME, body).await else {
        return plain(StatusCode::BAD_REQUEST, "the form is too long or was not sent\n");
    };
    let body = body.to_bytes();
    let token = url::form_urlencoded::parse(&body).find(|(key, _)| key == "token");
    match token {
        Some((_, token)) if access.is_token(token.trim()) => enter(access),
        _ => ask(site, true),
    }
}

fn enter(access: &Access) -> Answer {
    let mut response = with(plain(StatusCode::SEE_OTHER, ""), LOCATION, "/");
    if let Ok(cookie) = HeaderValue::from_str(&access.cookie()) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn ask(site: &dyn Site, was_wrong: bool) -> Answer {
    let mut response = shown(Some(site.login(was_wrong)));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

fn shown(file: Option<File>) -> Answer {
    match file {
        Some(File { kind, content }) => with(plain(StatusCode::OK, content), CONTENT_TYPE, kind),
        None => plain(StatusCode::NOT_FOUND, "there are /, /metrics, /healthz and /readyz\n"),
    }
}

fn refusal(status: StatusCode, why: &str) -> Answer {
    json_of(status, serde_json::json!({ "error": why }).to_string())
}

fn json_of(status: StatusCode, json: impl Into<Bytes>) -> Answer {
    with(plain(status, json), CONTENT_TYPE, "application/json")
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    with(with(response, CONTENT_TYPE, "text/plain; charset=utf-8"), CACHE_CONTROL, "no-store")
}

fn with(mut response: Answer, name: HeaderName, value: &'static str) -> Answer {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn safe(mut response: Answer) -> Answer {
    for (name, value) in SAFE {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::exit::Failure;
    use crate::metrics::Page;

    const TOKEN: &str = "a-token-of-many-characters";

    struct Shown {
        figures: fn() -> Result<Page, Failure>,
        missing: Vec<String>,
    }

    impl Site for Shown {
        fn figures(&self) -> Result<Page, Failure> {
            (self.figures)()
        }

        fn missing(&self) -> Vec<String> {
            self.missing.clone()
        }

        fn file(&self, path: &str) -> Option<File> {
            let content = match path {
                "/" => "the page",
                "/page/style.css" => "the style",
                _ => return None,
            };
            Some(File { kind: "text/html", content })
        }

        fn login(&self, was_wrong: bool) -> File {
            File { kind: "text/html", content: if was_wrong { "the form again" } else { "the form" } }
        }

        fn data<'a>(&'a self, path: &'a str) -> Boxed<'a, Option<Result<Bytes, Failure>>> {
            let answer = match path {
                "/api/status" => Some(Ok(Bytes::from("{}"))),
                "/api/batch/1" => Some(Err(Failure::new(Exit::NoInput, anyhow::anyhow!("no \"batch\" 1")))),
                _ => None,
            };
            Box::pin(async { answer })
        }
    }

    fn site() -> Shown {
        let figures = || {
            let mut page = Page::new("test");
            page.counter("rows", "Rows", 3);
            Ok(page)
        };
        Shown { figures, missing: vec![] }
    }

    async fn started(token: &str, site: Shown) -> (SocketAddr, Shutdown) {
        // A free port: the listener that found it is closed at once.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let shutdown = Shutdown::new();
        let (_, token) = watch::channel(Secret::new(token));
        let served = serve(address.to_string(), token, site, Clock::system(), shutdown.clone());
        tokio::spawn(served);
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        (address, shutdown)
    }

    async fn send(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        send(address, &format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn figures_page_and_data_are_served_where_they_are_asked_for_and_nothing_else() {
        let (address, shutdown) = started("", site()).await;
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains(metrics::CONTENT_TYPE) && answer.contains("\ntest_rows_total 3\n"),
            "{answer}"
        );
        assert!(ask(address, "GET /healthz").await.contains("alive"));
        let page = ask(address, "GET /").await;
        assert!(page.ends_with("the page") && page.contains("default-src 'none'"), "{page}");
        assert!(ask(address, "GET /page/style.css").await.ends_with("the style"));
        let status = ask(address, "GET /api/status").await;
        assert!(status.ends_with("{}") && status.contains("application/json"), "{status}");
        assert!(status.contains("cache-control: no-store"), "{status}");
        let unknown = ask(address, "GET /api/batch/1").await;
        assert!(
            unknown.starts_with("HTTP/1.1 404") && unknown.contains(r#"{"error":"no \"batch\" 1"}"#),
            "{unknown}"
        );
        for nothing in ["/api/else", "/else", "/page/../page", "/api"] {
            assert!(ask(address, &format!("GET {nothing}")).await.starts_with("HTTP/1.1 404"), "{nothing}");
        }
        for method in ["POST /metrics", "DELETE /", "PUT /api/status", "POST /api/status"] {
            assert!(ask(address, method).await.starts_with("HTTP/1.1 405"), "{method}");
        }
        shutdown.stop();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_told_until_it_is_ready() {
        let (address, _shutdown) = started("", site()).await;
        let answer = ask(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ready\n"), "{answer}");
        let missing = vec!["stream: 403 for 2m".to_owned(), "upload: away for 9s".to_owned()];
        let (address, _shutdown) = started("", Shown { missing, ..site() }).await;
        let answer = ask(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("not ready:\nstream: 403 for 2m\nupload: away for 9s\n"), "{answer}");
    }

    #[tokio::test]
    async fn under_another_name_the_page_is_refused_and_the_figures_are_not() {
        let (address, _shutdown) = started("", site()).await;
        for (path, status) in [("/", "403"), ("/api/status", "403"), ("/metrics", "200"), ("/readyz", "200")]
        {
            let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
            let answer = send(address, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn with_a_token_the_page_asks_for_it_once_and_keeps_it_in_a_cookie() {
        let (address, _shutdown) = started(TOKEN, site()).await;
        let asked = ask(address, "GET /").await;
        assert!(asked.starts_with("HTTP/1.1 401") && asked.ends_with("the form"), "{asked}");
        assert!(ask(address, "GET /api/status").await.starts_with("HTTP/1.1 401"));
        assert!(ask(address, "GET /page/style.css").await.starts_with("HTTP/1.1 200"), "the form needs it");
        let wrong = ask(address, "GET /?token=wrong").await;
        assert!(wrong.starts_with("HTTP/1.1 401") && wrong.ends_with("the form again"), "{wrong}");
        let form = |token: &str| {
            let body = format!("token={token}");
            let length = body.len();
            let head = "POST /login HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: ";
            format!("{head}{length}\r\n\r\n{body}")
        };
        assert!(send(address, &form("wrong")).await.ends_with("the form again"));
        assert!(send(address, &form(&"x".repeat(2_000))).await.starts_with("HTTP/1.1 400"));
        for entering in
            [ask(address, &format!("GET /?token={TOKEN}")).await, send(address, &form(TOKEN)).await]
        {
            assert!(
                entering.starts_with("HTTP/1.1 303") && entering.contains("location: /\r\n"),
                "{entering}"
            );
            let cookie = entering.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
            let cookie = cookie.split(';').next().unwrap();
            for path in ["/", "/api/status"] {
                let head = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nCookie: {cookie}");
                let answer = send(address, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn figures_that_cannot_be_had_are_an_error_that_says_why() {
        let figures = || Err(Failure::new(Exit::Io, anyhow::anyhow!("the disk is gone")));
        let (address, _shutdown) = started("", Shown { figures, ..site() }).await;
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("the disk is gone"), "{answer}");
    }
}
