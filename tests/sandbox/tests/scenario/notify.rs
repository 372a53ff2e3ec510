//! What a service manager hears of the services, on a socket of the test's own.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::config::Shape;
use sandbox::service::command;

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service, and everything that it has told so far.
struct Told {
    name: &'static str,
    child: Child,
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Told {
    fn start(world: &World, name: &'static str) -> Self {
        let path = world.path(&format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let child = command(name, &["run"], &world.config)
            .unwrap()
            .env("NOTIFY_SOCKET", &path)
            // systemd's own: two seconds.
            .env("WATCHDOG_USEC", "2000000")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, child, socket, heard: Vec::new() }
    }

    /// Listens until what was heard is enough.
    fn until(&mut self, what: &str, enough: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        while !enough(&self.heard) {
            assert!(begun.elapsed() < PATIENCE, "{} does not tell {what}: {:#?}", self.name, self.heard);
            let mut message = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut message) {
                let text = std::str::from_utf8(&message[..length]).unwrap();
                self.heard.extend(text.lines().map(str::to_owned));
            }
        }
    }

    fn until_heard(&mut self, state: &str) {
        self.until(state, |heard| heard.iter().any(|line| line.starts_with(state)));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_hears_when_a_service_is_ready_what_it_does_that_it_lives_and_that_it_stops() {
    let world = World::new(2_000, &Shape { max_batch_age: "1s", ..Shape::default() }).await;
    for (name, first, doing, ready) in [
        ("producer", "STATUS=opening the log", "STATUS=reading; ", "STATUS=connecting to the stream"),
        (
            "ingester",
            "STATUS=opening the load store",
            "STATUS=ready to load; no batch waits to be loaded",
            "STATUS=ready to load",
        ),
    ] {
        let mut told = Told::start(&world, name);
        told.until_heard("READY=1");
        assert_eq!(told.heard[0], first, "{:#?}", told.heard);
        assert!(told.heard.iter().any(|line| line == ready), "{:#?}", told.heard);
        told.until_heard(doing);
        let beats = told.heard.iter().filter(|line| *line == "WATCHDOG=1").count();
        told.until("that it lives", |heard| {
            heard.iter().filter(|line| *line == "WATCHDOG=1").count() >= beats + 8
        });
        if name == "ingester" {
            let before: Vec<_> = told.heard.iter().take_while(|line| *line != "READY=1").collect();
            assert!(before.iter().any(|line| line.starts_with("STATUS=verifying table")), "{before:#?}");
            assert!(before.iter().any(|line| *line == "EXTEND_TIMEOUT_USEC=60000000"), "{before:#?}");
            // What is ready answers.
            assert!(
                state::status::feed::snapshot::<serde_json::Value>(&world.path("ingester/feed.sock"))
                    .await
                    .is_ok()
            );
        }
        // A process that is halted says nothing, and goes on where it was.
        told.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_millis(500)).await;
        told.until("the rest", |_| true);
        told.signal(Signal::CONT);
        told.heard.clear();
        told.until_heard("WATCHDOG=1");
        told.heard.clear();
        told.signal(Signal::HUP);
        told.until_heard("READY=1");
        let of_reload: Vec<_> = told.heard.iter().filter(|line| *line != "WATCHDOG=1").collect();
        let at = of_reload.iter().position(|line| *line == "RELOADING=1").unwrap();
        assert!(of_reload[at + 1].starts_with("MONOTONIC_USEC="), "{of_reload:?}");
        told.signal(Signal::TERM);
        told.until_heard("STOPPING=1");
        // shutdown.timeout of 30 seconds, and some for the end of the process.
        told.until_heard("EXTEND_TIMEOUT_USEC=45000000");
        assert!(told.child.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_its_work_when_the_managers_socket_is_gone() {
    let world = World::new(500, &Shape { max_batch_age: "1s", ..Shape::default() }).await;
    let mut told = Told::start(&world, "producer");
    std::fs::remove_file(world.path("producer.notify")).unwrap();
    world.until_durable(world.wanted(), &mut []).await;
    told.signal(Signal::TERM);
    assert!(told.child.wait().unwrap().success());
}
