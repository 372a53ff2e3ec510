//! What stands beside the whole way: bare inflation of the same bytes, and our threads before the log.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bench::cpu_time;
use bench::stream::CHUNK;
use producer::{ConnectionEvent, Counters, Piece, Reading, Transform};
use shared::schema::Schema;
use tokio::sync::mpsc;

use crate::livestream::Body;
use crate::way::Taken;

const MAX_RECORD: usize = 1 << 20;

/// The same inflater as the producer's, and nothing else.
pub(crate) fn inflate(body: &Body, records: u64) -> Taken {
    measured(body, records, || bench::inflate(&body.gzip, body.text_bytes).unwrap())
}

/// The decoding threads of one connection (inflate; frame and transform), their rows dropped.
pub(crate) fn decode(body: &Body, records: u64, schema: &Schema) -> Taken {
    let transform = Transform::new(schema, &[]).unwrap().with_tally(schema, false);
    measured(body, records, || {
        let (pieces, input) = mpsc::channel(8);
        let (blocks, mut decoded) = mpsc::channel(4);
        let (reading, counters) = (Reading::from(MAX_RECORD), Arc::new(Counters::new(&[])));
        let decoding = producer::start(0, transform, reading, counters, input, blocks).unwrap();
        let mut rows = 0;
        thread::scope(|scope| {
            scope.spawn(move || {
                for chunk in body.gzip.chunks(CHUNK) {
                    assert!(pieces.blocking_send(Piece::Bytes(chunk.to_vec().into())).is_ok());
                }
            });
            while let Some(ConnectionEvent::Block(_, block)) = decoded.blocking_recv() {
                rows += block.records.len() as u64;
            }
        });
        decoding.join().unwrap();
        assert_eq!(rows, records);
    })
}

fn measured(body: &Body, records: u64, work: impl FnOnce()) -> Taken {
    let (begun, cpu) = (Instant::now(), cpu_time());
    work();
    let (time, cpu) = (begun.elapsed(), cpu_time() - cpu);
    Taken { records, text_bytes: body.text_bytes, time, cpu, ..Taken::default() }
}
