//! Lines that are no record. None can be taken for one: none carries a hit id in a well-formed JSON object. None
//! is the line `not authorized`, which has a meaning of its own.

use super::{
    Generator,
    mix::{For, Rng},
    values::{hex, number},
};

pub(crate) fn write(of: &Generator, index: u64, out: &mut Vec<u8>) {
    let mut rng = Rng::new(of.draw(index, For::Malformed));
    let around = |before: &[u8], after: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(before);
        number(index, out);
        out.extend_from_slice(after);
    };
    match rng.below(10) {
        // A record that broke off, at any byte: inside a key, a number, an escape, a character.
        0 | 1 => {
            around(b"{\"malformed\":", b",", out);
            let start = out.len();
            super::hit::write(of, index, out);
            out.remove(start);
            let whole = (out.len() - start) as u64;
            out.truncate(start + rng.below(whole - 1) as usize);
        }
        2 => around(b"upstream error 502 at shard ", b", try later", out),
        3 => around(b"{\"malformed\":", b",\xff\xfe \xc3(\xed\xa0\x80\"pageName\":\"a\"}", out),
        4 => around(b"{\"malformed\":", b",\"evars\":{\"evars\":{\"evar1\":[1,2}}}", out),
        5 => around(b"[", b",\"an array\",{\"hitIdHigh\":1,\"hitIdLow\":2}]", out),
        6 => around(b"", b"", out),
        7 => around(b"{\"malformed\":", b",\"pageName\":\"two on a line\"}{\"again\":true}", out),
        8 => around(b"<html><head><title>503</title></head><body>~ \"request\" ", b"</body></html>", out),
        // Binary, without LF, which would make two lines of it.
        _ => {
            around(b"\x1f\x8b\x08\x00", b"\x00\x01\x02\x80\x90\xfe", out);
            hex(rng.next(), out);
        }
    }
}
