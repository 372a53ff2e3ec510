//! A Livestream in memory, compressed before any clock starts, and the threads that send it when they are told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Barrier};
use std::thread;

use adobe::{Generator, Plan};
use bench::stream;

/// What one connection brings: a gzip member that is flushed now and then and does not end.
pub(crate) struct Body {
    pub(crate) gzip: Vec<u8>,
    /// Bytes that it inflates to.
    pub(crate) text_bytes: u64,
}

/// So many records, dealt out to so many connections. Each becomes one row: none is a duplicate, filtered or malformed.
pub(crate) fn make(records: u64, connections: u64) -> Vec<Body> {
    let plan = Plan { hits: records, excluded_per_mille: 0, ..Plan::default() };
    thread::scope(|scope| {
        let start = |first: u64| scope.spawn(move || body(&Generator::new(plan), first, connections));
        let threads: Vec<_> = (0..connections).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every so many-th record, from the first of them on.
fn body(generator: &Generator, first: u64, step: u64) -> Body {
    let hits = (first..generator.plan().hits).step_by(step as usize);
    let (mut encoder, text_bytes) = stream::compress(generator, hits).unwrap();
    encoder.flush().unwrap();
    Body { gzip: encoder.get_ref().clone(), text_bytes }
}

/// Serves the bodies, one a connection, in the order in which connections come. Says `connected` when each has its
/// head; sends when `go` is passed by one thread more than there are bodies.
pub(crate) fn serve(bodies: Vec<Vec<u8>>, go: Arc<Barrier>, connected: fn()) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let all = Arc::new(Barrier::new(bodies.len()));
    thread::spawn(move || {
        for (body, socket) in bodies.into_iter().zip(listener.incoming()) {
            let (go, all) = (Arc::clone(&go), Arc::clone(&all));
            thread::spawn(move || {
                let mut socket = socket.unwrap();
                let chunks = stream::chunked(&body).unwrap();
                stream::answer(&mut socket).unwrap();
                if all.wait().is_leader() {
                    connected();
                }
                go.wait();
                // The client may go when it has all rows; this connection stays open until then.
                let _ = socket.write_all(&chunks);
                let _ = socket.read(&mut [0]);
            });
        }
    });
    at
}
