//! A tiny HTTP server that answers as its script says, keeps what it was asked, and can keep silent: what the
//! stand-in for Adobe, which plays by Adobe's rules, does not do.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer, as it goes over the wire.
#[derive(Clone)]
pub(crate) enum Answer {
    /// These bytes, and the end of the connection.
    Say(String),
    /// These bytes, then silence on an open connection.
    SayAndHold(Vec<u8>),
    /// These bytes after a while, and the end of the connection.
    Late(Duration, String),
}

/// An answer with a status, headers, each ended by CR LF, and a body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Answer {
    Answer::Say(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

pub(crate) fn redirect(to: &str) -> Answer {
    answer(302, &format!("Location: {to}\r\n"), "")
}

/// The running server. Its answers are given in order, the last one for ever.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let script: Vec<_> = script.into_iter().collect();
        let keep = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut given = 0;
            while let Ok((socket, _)) = listener.accept().await {
                let answer = script[given.min(script.len() - 1)].clone();
                given += 1;
                tokio::spawn(serve(socket, answer, Arc::clone(&keep)));
            }
        });
        Self { url, asked }
    }

    /// The requests so far, heads and bodies.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns when so many requests have come.
    pub(crate) async fn asked_times(&self, times: usize) {
        let asking = async {
            while self.asked().len() < times {
                Clock::system().sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), asking).await.expect("nobody asks");
    }
}

async fn serve(mut socket: TcpStream, answer: Answer, asked: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer).await {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break;
            }
        }
    }
    asked.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    match answer {
        Answer::Say(text) => drop(socket.write_all(text.as_bytes()).await),
        Answer::Late(after, text) => {
            Clock::system().sleep(after).await;
            drop(socket.write_all(text.as_bytes()).await);
        }
        Answer::SayAndHold(bytes) => {
            drop(socket.write_all(&bytes).await);
            std::future::pending::<()>().await;
        }
    }
}
