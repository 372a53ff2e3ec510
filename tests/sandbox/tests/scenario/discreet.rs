//! Logs, errors, dumps and figures hold no value of a record and no secret, whatever goes wrong and however much they are
//! told to say. Values stand only where records are kept: in the log, in S3 and in the table.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use sandbox::config::Shape;
use sandbox::judge::{Narrow, files_below};
use sandbox::s3::{BUCKET, SECRET_KEY};
use sandbox::service;
use sandbox::standins::{CLIENT_SECRET, PASSWORD};
use shared::object_store::base64;

use crate::schema::send;
use crate::world::{STOP, World, options};

/// Stands in every value that is text, and in what is no record at all.
const MARKER: &str = "mArKeRvAlUe";
/// A number that a `smallint` cannot hold, and that Redshift's reason repeats.
const NUMBER: &str = "1987654321";
const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 100,
    files_per_batch: 2,
    // So that bodies of requests hold values as they are.
    compression: "none",
};
const HITS: u64 = 20;

/// Lines of every sort: rows, rows that the table refuses, rejects for each reason.
fn lines() -> Vec<u8> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut lines = Vec::new();
    let mut record = |number: u64, more: &str| {
        let ids = format!("\"hitIdHigh\":77,\"hitIdLow\":{number},\"receivedTimeGMT\":{now}");
        lines.extend_from_slice(format!("{{{ids},\"pageName\":\"{MARKER} page\"{more}}}\n").as_bytes());
    };
    (0..40).for_each(|number| record(number, ""));
    // The table is narrower here.
    record(
        100,
        &format!(",\"evars\":{{\"evars\":{{\"evar1\":\"{MARKER} that is longer than it may be\"}}}}"),
    );
    record(101, &format!(",\"browserWidth\":{NUMBER}"));
    // Not of the type.
    record(102, &format!(",\"browserWidth\":\"{MARKER}\",\"visitNum\":{{\"{MARKER}\":1}}"));
    record(103, &format!(",\"{MARKER}\":[\"{MARKER}\"]"));
    lines.extend_from_slice(
        format!("{{\"hitIdHigh\":\"{MARKER}\",\"receivedTimeGMT\":\"{MARKER}\"}}\n").as_bytes(),
    );
    // No records.
    for text in [
        "{\"pageName\":\"@",
        "{\"pageName\":@}",
        "@",
        "\"@\"",
        "[\"@\"]",
        "{\"a\":\"@\"}{\"b\":\"@\"}",
        "<html>@",
    ] {
        lines.extend_from_slice(text.replace('@', MARKER).as_bytes());
        lines.push(b'\n');
    }
    // No UTF-8.
    for text in [&b"{\"pageName\":\"\xff"[..], b"\xfe\xff"] {
        lines.extend_from_slice(text);
        lines.extend_from_slice(format!("{MARKER}\n").as_bytes());
    }
    // Too long.
    lines.extend_from_slice(format!("{{\"a\":\"{}\"}}\n", MARKER.repeat(10_000)).as_bytes());
    lines
}

/// A page of figures.
pub(crate) fn figures(listen: &str) -> String {
    let mut socket = TcpStream::connect(listen).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

pub(crate) fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl World {
    /// Everything that a command says.
    fn hear(&self, command: &str, args: &[&str]) -> String {
        let output = service::run(command, args, &self.config).unwrap();
        let said = [output.stdout, output.stderr].concat();
        format!("{command} {args:?}\n{}", String::from_utf8_lossy(&said))
    }
}

/// A value as somebody might write its bytes down: as text, as hexadecimal digits, as base64.
pub(crate) fn spellings(value: &str) -> Vec<String> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Three bytes are four letters, so what stands before the value decides which of three texts it has.
    let shifted = (0..3).map(|before| {
        let whole = base64(&[&vec![0; before][..], value.as_bytes()].concat());
        // Only letters that no byte around the value has a part in.
        whole[(before * 4).div_ceil(3)..(before + value.len()) * 4 / 3].to_owned()
    });
    [value.to_owned(), hex.to_uppercase(), hex].into_iter().chain(shifted).collect()
}

#[test]
fn a_value_is_found_however_its_bytes_are_written_down() {
    let found = |said: &str| spellings(MARKER).iter().any(|spelling| said.contains(spelling));
    for around in ["", "x", "xy", "xyz"] {
        let text = format!("{around}{MARKER}{around}");
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        for said in [base64(text.as_bytes()), hex.to_uppercase(), hex, text] {
            assert!(found(&said), "{said}");
        }
    }
    assert!(!found("mArKeR vAlUe") && !found(&base64(b"markervalue")));
}

#[track_caller]
pub(crate) fn assert_discreet(what: &str, said: &str, secrets: &[String]) {
    for kept in secrets {
        if let Some(line) = said.lines().find(|line| line.contains(kept.as_str())) {
            panic!("{what} holds {kept}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_and_no_secret_is_told_at_any_level() {
    let listens = [free_port(), free_port()];
    let configure = |text: &str| {
        let text = text.replace("[logging]\n", "[logging]\nlevel = \"trace\"\n");
        let text = text.replace("[adobe]\n", "[adobe]\nmax_record_bytes = \"64KiB\"\n");
        let text = text.replace("[ingester]\n", "[quarantine]\nmax_share = 0.0\n\n[ingester]\n");
        let text = text.replace("producer_listen = \"\"", &format!("producer_listen = \"{}\"", listens[0]));
        text.replace("ingester_listen = \"\"", &format!("ingester_listen = \"{}\"", listens[1]))
    };
    let narrow = Narrow { column: "evar1", bytes: 34 };
    let world = World::altered(options(HITS), &SHAPE, configure, Some(narrow)).await;
    send(&world, "ALTER TABLE public.livestream DROP COLUMN browserwidth;").await;
    send(&world, "ALTER TABLE public.livestream ADD COLUMN browserwidth smallint;").await;
    let file = world.path("marked.ndjson");
    fs::write(&file, lines()).unwrap();

    let mut told = Vec::new();
    told.push(world.hear("producer", &["replay", file.to_str().unwrap()]));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_published(&mut producer).await;
    // A batch waits whole, with its reason.
    let refused = async || ingester.said().contains("first refused");
    world.until("rows are refused", &mut [&mut producer], refused).await;
    told.extend(listens.iter().map(|listen| figures(listen)));
    for args in [&["dump"][..], &["dump", "--json"], &["verify"]] {
        told.push(world.hear("state", args));
    }
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();

    // The others are loaded, the refused rows are in quarantine, and refused again.
    world.configure("max_share = 0.0", "max_share = 0.9");
    ingester.start_again().unwrap();
    world.until_put_away(&mut [&mut ingester]).await;
    told.push(world.hear("state", &["dump"]));
    ingester.stop(Duration::from_secs(20)).await.unwrap();
    for args in [&["replay", "--all"][..], &["audit"], &["reconcile"], &["check"]] {
        told.push(world.hear("ingester", args));
    }
    for args in [&["dump"][..], &["dump", "--json"], &["verify"]] {
        told.push(world.hear("state", args));
    }

    let tokens = world.standins.adobe.tokens_given();
    assert!(!tokens.is_empty());
    let secrets = [NUMBER, SECRET_KEY, CLIENT_SECRET, PASSWORD].map(str::to_owned);
    let kept = [spellings(MARKER), secrets.to_vec(), tokens].concat();
    told.iter().for_each(|said| assert_discreet("a command", said, &kept));
    for file in files_below(&world.path("logs")).unwrap() {
        let said = fs::read(&file).unwrap();
        assert_discreet(&file.display().to_string(), &String::from_utf8_lossy(&said), &kept);
    }
    // It was all there: this test would find it.
    let kept = |prefix: &str, what: &str| {
        let files = files_below(&world.path("s3").join(BUCKET).join(prefix)).unwrap();
        let found =
            |path: &std::path::PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(what);
        assert!(files.iter().any(found), "{what} below {prefix}");
    };
    kept("Ingested", MARKER);
    kept("Quarantine", MARKER);
    kept("Quarantine", NUMBER);
    assert_eq!(
        world.count(&format!("count(*) FROM public.livestream WHERE pagename = '{MARKER} page'")).await,
        42
    );
}
