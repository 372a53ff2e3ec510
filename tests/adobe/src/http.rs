//! The little HTTP both servers share: an accept loop, JSON answers, and form decoding.

use std::{convert::Infallible, future::Future, io};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::livestream::admission::Refusal;

/// What hyper may gather before it writes to the socket. Small, so that what is cut is soon on the wire.
const WRITE_BUFFER: usize = 64 * 1024;

/// Serves until the handle is aborted, which also closes every connection.
pub(crate) fn serve<H, F, B>(listener: TcpListener, handle: H) -> JoinHandle<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, handle).await {
                            tracing::debug!(error, "connection ended");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "accept failed"),
            }
        }
    })
}

async fn connection<H, F, B>(
    mut stream: TcpStream,
    handle: H,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    stream.set_nodelay(true)?;
    // A client that speaks HTTP/2 without asking starts with `PRI * HTTP/2.0`, which hyper answers by hanging up.
    let mut start = [0; 4];
    if stream.peek(&mut start).await? == 4 && &start == b"PRI " {
        return Ok(stream
            .write_all(b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n")
            .await?);
    }
    http1::Builder::new()
        .max_buf_size(WRITE_BUFFER)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            }),
        )
        .await?;
    Ok(())
}

/// A whole JSON answer, in the body type of a server that may also stream.
pub(crate) fn json<B>(status: StatusCode, body: impl Into<Bytes>) -> Response<Either<Full<Bytes>, B>> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A refusal in the form IMS and Livestream share: `{"error":…,"error_description":…}`.
pub(crate) fn refusal<B>(refusal: &Refusal, error: &str) -> Response<Either<Full<Bytes>, B>> {
    let body = serde_json::json!({ "error": error, "error_description": refusal.description });
    let mut response = json(refusal.status, body.to_string());
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed =
            header::HeaderValue::from_static(if error == "method_not_allowed" { "GET" } else { "POST" });
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// The answer of a scripted refusal.
pub(crate) fn scripted<B>(status: u16, body: Option<String>) -> Response<Either<Full<Bytes>, B>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match body {
        Some(body) => json(status, body),
        None => refusal(&Refusal::new(status, format!("scripted {status}")), "scripted"),
    }
}

/// The pairs of `application/x-www-form-urlencoded` text, which a query is too.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A bound listener whose connections send with a small buffer: a real client is far away, and what lies unread in
/// a kernel's buffer is neither with the server nor with the client. Accepted sockets inherit the size.
pub(crate) fn listen(address: std::net::SocketAddr, send_buffer: Option<u32>) -> io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let pairs = form("scope=openid%2CAdobeID+x&empty=&bare&bad=%zz%4");
        let expected = [("scope", "openid,AdobeID x"), ("empty", ""), ("bare", ""), ("bad", "%zz%4")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
