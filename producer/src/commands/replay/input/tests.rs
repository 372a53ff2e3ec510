//! What is there, what is not, and an object whose connection breaks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use std::ffi::OsString;
use std::path::Path;

use indicatif::ProgressBar;
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use tokio::sync::mpsc;

use crate::commands::replay::input::{Input, find};

async fn store(endpoint: &str) -> ObjectStore {
    let example = include_str!("../../../../../deploy/pipeline.example.toml");
    let s3 = format!(
        "[s3]\nendpoint = \"{endpoint}\"\npath_style = true\naccess_key_id = \"a\"\nsecret_access_key = \"b\""
    );
    let text = example.replace("[s3]", &s3);
    let config = Config::parse(&text, Path::new("x"), std::iter::empty(), Secrets::Store).unwrap();
    ObjectStore::connect(&config.s3).await
}

async fn found(files: &[&str]) -> Result<Vec<Input>, Failure> {
    let files: Vec<_> = files.iter().map(OsString::from).collect();
    find(&files, &store("http://127.0.0.1:9").await).await
}

#[tokio::test]
async fn what_cannot_be_read_is_told_before_anything_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a b");
    std::fs::write(&file, "12345").unwrap();
    let pretty = dir.path().join("pretty");
    std::fs::write(&pretty, "{\n \"pageName\": \"a\"\n}\n").unwrap();
    let pretty = pretty.to_str().unwrap();
    let (file, dir) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    let inputs = found(&[file, "-"]).await.unwrap();
    assert_eq!(inputs.iter().map(|input| input.bytes).collect::<Vec<_>>(), [Some(5), None]);
    for (files, exit, said) in [
        ([file, "/none"], Exit::NoInput, "/none: No such file"),
        ([file, pretty], Exit::Data, "with `jq -c .`; nothing was taken in"),
        ([file, dir], Exit::Usage, "is a directory: name the files in it"),
        ([file, &format!("{dir}/../{}/a b", dir.rsplit('/').next().unwrap())], Exit::Usage, "is named twice"),
        ([file, "s3://bucket"], Exit::Usage, "s3://bucket names no object"),
        ([file, "s3:///key"], Exit::Usage, "s3:///key names no object"),
    ] {
        let failure = found(&files).await.unwrap_err();
        assert_eq!(failure.exit(), exit, "{failure}");
        assert!(failure.to_string().contains(said), "{failure}");
    }
}

#[tokio::test]
async fn an_object_whose_connection_breaks_is_read_on_where_it_broke_off() {
    const CONTENT: &str = "0123456789";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // Each answer sends three bytes of what was asked for, and hangs up.
    let server = tokio::spawn(async move {
        let mut ranges = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let (mut request, mut buffer) = (String::new(), [0; 4096]);
            while !request.contains("\r\n\r\n") {
                let read = socket.read(&mut buffer).await.unwrap();
                request += &String::from_utf8_lossy(&buffer[..read]).to_lowercase();
            }
            let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let at: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            assert_eq!(at > 0, request.contains("if-match: \"e\""), "{request}");
            ranges.push(at);
            let rest = &CONTENT[at..];
            let status = if at > 0 { "206 Partial Content" } else { "200 OK" };
            let part = if request.starts_with("head") { "" } else { &rest[..3.min(rest.len())] };
            let answer =
                format!("HTTP/1.1 {status}\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n{part}", rest.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
            if at + part.len() == CONTENT.len() {
                break;
            }
        }
        ranges
    });
    let files = [OsString::from("s3://bucket/key")];
    let clock = Clock::system();
    let mut inputs = find(&files, &store(&endpoint).await).await.unwrap();
    let mut opened = inputs.remove(0).open(&clock).await.unwrap();
    assert_eq!(opened.stamp.as_deref(), Some("\"e\""));
    let (to, mut pieces) = mpsc::channel(100);
    opened.pump(to, &ProgressBar::hidden(), &clock).await.unwrap();
    let mut got = Vec::new();
    let mut last = None;
    while let Some(piece) = pieces.recv().await {
        got.extend_from_slice(&piece);
        last = Some(piece);
    }
    assert_eq!(got, CONTENT.as_bytes());
    assert!(last.is_some_and(|piece| piece.is_empty()), "the end is told");
    assert_eq!(server.await.unwrap(), [0, 0, 3, 6, 9]);
}
