//! A client with nothing clever in it: a socket, the bytes of a request, and what came back. An HTTP library would
//! hide what these tests are about: the redirect, the chunks, the cut.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used)]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use adobe::{Adobe, Options};
use flate2::read::MultiGzDecoder;
use tokio::runtime::Runtime;

/// The stand-in with the runtime it lives on; the test itself stays synchronous.
pub(crate) struct Stage {
    pub(crate) adobe: Adobe,
    _runtime: Runtime,
}

impl Stage {
    pub(crate) fn new(options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let _inside = runtime.enter();
        Self { adobe: Adobe::start(options).unwrap(), _runtime: runtime }
    }

    pub(crate) fn token(&self) -> String {
        let form =
            "grant_type=client_credentials&client_id=client-id&client_secret=client-secret&scope=openid";
        let answer = post(&self.adobe.token_url(), form);
        assert_eq!(answer.status, 200, "{}", answer.head);
        let body: serde_json::Value = serde_json::from_str(&answer.body()).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// Follows the redirect and reads the stream from there.
    pub(crate) fn connect(&self, token: &str, query: &str) -> Stream {
        let mut answer = self.ask(token, query);
        // On a busy machine the stand-in may not have noticed yet that the last connection is gone.
        for _ in 0..50 {
            if answer.status != 409 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            answer = self.ask(token, query);
        }
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.head.contains("content-encoding: gzip"), "{}", answer.head);
        Stream { inflated: BufReader::new(MultiGzDecoder::new(answer.body)), line: Vec::new() }
    }

    /// The answer at the end of the redirect.
    pub(crate) fn ask(&self, token: &str, query: &str) -> Answer {
        let front = get(&format!("{}{query}", self.adobe.stream_url()), &headers(token));
        if front.status != 302 {
            return front;
        }
        get(front.header("location").unwrap(), &headers(token))
    }
}

pub(crate) fn headers(token: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Authorization", format!("Bearer {token}")),
        ("x-api-key", "client-id".into()),
        ("Accept-Encoding", "gzip".into()),
    ]
}

/// The lines of a stream.
pub(crate) struct Stream {
    inflated: BufReader<MultiGzDecoder<Body>>,
    pub(crate) line: Vec<u8>,
}

impl Stream {
    /// The next line without its CRLF; `None` at a clean end.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        self.inflated.read_until(b'\n', &mut self.line)?;
        match self.line.strip_suffix(b"\r\n") {
            Some(line) => Ok(Some(line)),
            None if self.line.is_empty() => Ok(None),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next `count` lines that are not empty.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let line = self.next().unwrap().unwrap();
            if !line.is_empty() {
                lines.push(line.to_vec());
            }
        }
        lines
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn body(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        text
    }
}

pub(crate) fn get(url: &str, headers: &[(&str, String)]) -> Answer {
    request("GET", "HTTP/1.1", url, headers, "")
}

pub(crate) fn post(url: &str, form: &str) -> Answer {
    let kind = ("Content-Type", "application/x-www-form-urlencoded".to_owned());
    request("POST", "HTTP/1.1", url, &[kind, ("Content-Length", form.len().to_string())], form)
}

pub(crate) fn request(
    method: &str,
    version: &str,
    url: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Answer {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = format!("{method} /{path} {version}\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    write!(socket, "{text}\r\n{body}").unwrap();
    let mut socket = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(socket.read_line(&mut head).unwrap(), 0, "no answer: {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let left = length.unwrap_or(0);
    Answer {
        status,
        head,
        body: Body { socket, left, chunked: length.is_none(), over: false, sizes: Vec::new() },
    }
}

/// A body, with or without chunks. A connection that closes before the last chunk is an error.
pub(crate) struct Body {
    socket: BufReader<TcpStream>,
    left: usize,
    chunked: bool,
    over: bool,
    pub(crate) sizes: Vec<usize>,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.chunked && !self.over {
            let mut size = String::new();
            while size.trim().is_empty() {
                size.clear();
                if self.socket.read_line(&mut size)? == 0 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            self.left = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            self.sizes.push(self.left);
            self.over = self.left == 0;
        }
        if self.left == 0 || into.is_empty() {
            return Ok(0);
        }
        let most = into.len().min(self.left);
        let read = self.socket.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.left -= read;
        Ok(read)
    }
}
