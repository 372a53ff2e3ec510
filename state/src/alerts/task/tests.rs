//! Reloads, with a target that answers.

use shared::config::Secrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::alerts::judge::tests::Figure;

const PATIENCE: Duration = Duration::from_secs(10);
/// A message that is not to come would be there by then: it is sent beside one that comes.
const MOMENT: Duration = Duration::from_millis(500);

/// Answers every request, and tells its path.
async fn target() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (told, paths) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                let (mut request, mut read) = (Vec::new(), [0; 4096]);
                // The body is one JSON object, and ends with it.
                while !request.ends_with(b"}") {
                    match socket.read(&mut read).await {
                        Ok(bytes @ 1..) => request.extend_from_slice(&read[..bytes]),
                        _ => return,
                    }
                }
                let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap().to_owned();
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                socket.write_all(answer).await.unwrap();
                told.send(path).unwrap();
            });
        }
    });
    (address, paths)
}

/// A configuration with these targets.
fn config(address: &str, targets: &[&str]) -> Arc<Config> {
    let example = include_str!("../../../../deploy/pipeline.example.toml");
    let target = |name: &&str| {
        format!("[[alert_target]]\nname = \"{name}\"\nkind = \"json\"\nurl = \"{address}/{name}\"\n")
    };
    let targets: String = targets.iter().map(target).collect();
    let text = format!("{example}\n{targets}");
    Arc::new(Config::parse(&text, "pipeline.toml".as_ref(), std::iter::empty(), Secrets::Unused).unwrap())
}

#[tokio::test]
async fn a_reload_tells_nothing_twice_although_the_disk_keeps_nothing() {
    shared::tls::install();
    let (address, mut told) = target().await;
    let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
    let (activity, shutdown) = (Activity::new(clock.clone()), Shutdown::new());
    let dir = tempfile::tempdir().unwrap();
    let seen = activity.clone();
    let watch = Watch { dir: dir.path().join("none"), activity, look: || Ok(Figure(31.0)) };
    let (configs, taken) = watch::channel(config(&address, &["oncall"]));
    let task = tokio::spawn(start(taken, watch, &clock, &shutdown).unwrap());
    let mut next = async || tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, "/oncall");
    // Until the answer is read too.
    while !seen.components().iter().any(|one| one.number.is_some() && one.failing.is_none()) {
        tokio::task::yield_now().await;
    }

    configs.send_replace(config(&address, &["oncall", "chat"]));
    assert_eq!(next().await, "/chat", "a new target is told what stands");
    assert!(tokio::time::timeout(MOMENT, told.recv()).await.is_err(), "it was told before the reload");
    shutdown.stop();
    task.await.unwrap();
}
