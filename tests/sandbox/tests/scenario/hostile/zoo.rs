//! What somebody writes to the bucket who must not harm the service. Objects are files below the folder of the bucket, so that
//! their keys can be of any characters.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sandbox::s3::BUCKET;
use serde_json::{Value, json};
use shared::compress::compress;
use shared::ids::BatchId;
use shared::layout::{self, Compression};
use shared::object_store::crc32;
use shared::seal::{Manifest, Seal};

/// More than any seal or manifest has, and holes: it takes no disk.
const HUGE: u64 = 32 << 20;

/// A batch that is refused.
#[derive(Debug, Clone)]
pub(super) struct Beast {
    pub(super) batch: BatchId,
    /// A part of the reason that is told.
    pub(super) why: &'static str,
}

/// A bucket with a folder of an honest batch, whose seal and file the others are made of.
pub(super) struct Zoo {
    root: PathBuf,
    honest: Seal,
    file: Vec<u8>,
    opened: DateTime<Utc>,
    count: u64,
    /// Batches whose seals cannot be used.
    pub(super) unusable: Vec<Beast>,
    /// Batches whose seals can, and whose folders are not what they say.
    pub(super) unfit: Vec<Beast>,
    /// Everything that was written.
    pub(super) files: Vec<PathBuf>,
}

impl Zoo {
    pub(super) fn new(root: &Path, honest: Seal) -> Self {
        let folder = root.join(layout::folder("ToIngest/", honest.batch));
        let file = fs::read(folder.join(&honest.files[0].name)).unwrap();
        // Before all honest ones in every listing, and where listings still look for batches.
        let opened = honest.batch.opened_at() - TimeDelta::minutes(1);
        let (unusable, unfit, files) = (Vec::new(), Vec::new(), Vec::new());
        Self { root: root.to_owned(), honest, file, opened, count: 0, unusable, unfit, files }
    }

    fn next(&mut self) -> BatchId {
        self.count += 1;
        BatchId::floor(self.opened).derived(&self.count.to_be_bytes())
    }

    fn put(&mut self, key: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.files.push(path);
    }

    fn put_huge(&mut self, key: &str) {
        self.put(key, "");
        File::options().write(true).open(self.files.last().unwrap()).unwrap().set_len(HUGE).unwrap();
    }

    /// The honest seal as one of this batch with one file.
    fn seal(&self, batch: BatchId) -> Seal {
        let mut seal = Seal { batch, compared: None, content: None, forgotten: None, ..self.honest.clone() };
        seal.files.truncate(1);
        (seal.rows, seal.bytes) = (seal.files[0].rows, seal.files[0].bytes);
        seal
    }

    fn seal_as(&mut self, batch: BatchId, alter: impl FnOnce(&mut Value)) {
        let mut seal = serde_json::to_value(self.seal(batch)).unwrap();
        alter(&mut seal);
        let key = format!("{}batch.json", layout::folder("ToIngest/", batch));
        self.put(&key, serde_json::to_vec(&seal).unwrap());
    }

    fn lies(&mut self, why: &'static str, alter: impl FnOnce(&mut Value)) {
        let batch = self.next();
        self.seal_as(batch, alter);
        self.unusable.push(Beast { batch, why });
    }

    fn raw(&mut self, why: &'static str, content: impl AsRef<[u8]>) {
        let batch = self.next();
        self.put(&format!("{}batch.json", layout::folder("ToIngest/", batch)), content);
        self.unusable.push(Beast { batch, why });
    }

    /// A folder that is whole, but for what `alter` does to its seal, file and manifest.
    fn folder(&mut self, why: &'static str, alter: impl FnOnce(&mut Seal, &mut Vec<u8>, &mut Vec<u8>)) {
        let batch = self.next();
        let (mut seal, mut file) = (self.seal(batch), self.file.clone());
        let folder = layout::folder("ToIngest/", batch);
        let [mut manifest, _] = seal.manifest_and_seal(BUCKET, &folder);
        alter(&mut seal, &mut file, &mut manifest);
        self.put(&format!("{folder}{}", seal.files[0].name.clone()), file);
        self.put(&format!("{folder}manifest.json"), manifest);
        self.put(&format!("{folder}batch.json"), serde_json::to_vec(&seal).unwrap());
        self.unfit.push(Beast { batch, why });
    }

    /// So many sealed folders in which nothing is.
    pub(super) fn hollow(&mut self, many: usize) {
        for _ in 0..many {
            let batch = self.next();
            self.seal_as(batch, |_| {});
            self.unfit.push(Beast { batch, why: "is missing" });
        }
    }

    /// Seals that lie.
    pub(super) fn seals(&mut self) {
        let max = u64::MAX;
        self.lies("is no fingerprint", |seal| seal["schema"] = json!("'); DROP TABLE livestream; --"));
        self.lies("is no fingerprint", |seal| seal["schema"] = json!("\u{1b}]0;owned\u{7}\nERROR owned"));
        self.lies("cannot stand there", |seal| seal["instance"] = json!("../a\nERROR owned"));
        self.lies("cannot stand there", |seal| seal["rows"] = json!(1e99));
        self.lies("cannot stand there", |seal| seal["files"] = json!({"length": 1_000_000_000}));
        self.lies("it belongs to batch", |seal| seal["batch"] = json!(BatchId::new()));
        for name in
            ["../../../Ingested/0.csv.zst", "s3://other-bucket/0.csv.zst", "<script>alert(1)</script>"]
        {
            self.lies("which no file of rows has", |seal| seal["files"][0]["name"] = json!(name));
        }
        self.lies("no file has more than", |seal| seal["files"][0]["rows"] = json!(max));
        self.lies("its files sum up to", |seal| seal["rows"] = json!(max));
        self.lies("no batch has more than", |seal| seal["counts"]["received"] = json!(max));
        self.lies("no batch has more than", |seal| seal["counts"]["filtered"] = json!(i64::MAX));
        self.lies("no batch has more than", |seal| {
            let known = json!([{"run": BatchId::new(), "until": max}]);
            seal["compared"] = json!({"run": BatchId::new(), "number": 1, "known": known, "uncompared": 0});
        });
        let far = "+99999-12-31T23:59:59Z";
        self.lies("not between the years", |seal| seal["last_received"] = json!(far));
        self.lies("not between the years", |seal| {
            seal["first_received"] = json!("-9999-01-01T00:00:00Z");
        });
        self.lies("a name consists of", |seal| {
            seal["columns"] = json!(["a\") FROM 's3://other-bucket/x'; --"]);
        });
        self.lies("which none is", |seal| seal["files"][0]["crc32"] = json!("\u{1b}[2J"));
        self.lies("which none is", |seal| seal["files"][0]["etag"] = json!("x".repeat(100_000)));
        self.lies("it names 1001 files", |seal| {
            let file = |n| {
                let mut file = seal["files"][0].clone();
                file["name"] = json!(format!("{n}.csv.zst"));
                file
            };
            seal["files"] = (0..1_001).map(file).collect();
        });
        self.lies("it gave up 9000 names", |seal| {
            let replaced = vec!["0.csv.zst"; 9_000];
            seal["forgotten"] = json!({"rows": 1, "sealed_bytes": 1, "replaced": replaced, "highest": 0});
        });
        self.lies("it gave up the name", |seal| {
            let replaced = ["../../batch.json"];
            seal["forgotten"] = json!({"rows": 1, "sealed_bytes": 1, "replaced": replaced, "highest": 0});
        });
        self.lies("it has format 4294967295", |seal| seal["format"] = json!(u32::MAX));
        self.raw("EOF", "");
        self.raw("not the JSON of a seal", b"\xff\xfe{\0");
        self.raw("not the JSON of a seal", "[".repeat(900_000));
        self.raw("not the JSON of a seal", "{\"format\":".repeat(90_000));
        self.raw("duplicate field `format`", "{\"format\":2,\"format\":1}");
        self.raw("1048576", "x".repeat((1 << 20) + 1));
        let batch = self.next();
        self.put_huge(&format!("{}batch.json", layout::folder("ToIngest/", batch)));
        self.unusable.push(Beast { batch, why: "33554432 bytes" });
    }

    /// Seals that can be of a batch, in folders that are none.
    pub(super) fn folders(&mut self) {
        self.hollow(1);
        self.folder("was altered: its CRC-32", |_, file, _| *file.last_mut().unwrap() ^= 1);
        self.folder("bytes, the seal says", |_, file, _| file.truncate(9));
        self.folder("ahead of the clock", |seal, _, _| {
            seal.last_received = Some(Utc::now() + TimeDelta::days(400));
        });
        self.folder("does not name the files of the seal", |_, _, manifest| {
            *manifest = serde_json::to_vec(&Manifest::of("other-bucket", ["0.csv.zst"])).unwrap();
        });
        let honest = format!("{}0.csv.zst", layout::folder("ToIngest/", self.honest.batch));
        self.folder("does not name the files of the seal", |_, _, manifest| {
            *manifest = serde_json::to_vec(&Manifest::of(BUCKET, [honest.as_str()])).unwrap();
        });
        // Of two that name each other.
        let next = self.count + 2;
        let other = BatchId::floor(self.opened).derived(&next.to_be_bytes());
        for other in [other, BatchId::floor(self.opened).derived(&(next - 1).to_be_bytes())] {
            let key = format!("{}0.csv.zst", layout::folder("ToIngest/", other));
            self.folder("does not name the files of the seal", |_, _, manifest| {
                *manifest = serde_json::to_vec(&Manifest::of(BUCKET, [key.as_str()])).unwrap();
            });
        }
        self.folder("does not name the files of the seal", |_, _, manifest| {
            let more = b"{\"Entries\":[{\"url\":\"s3://other-bucket/0.csv.zst\",\"mandatory\":true}],";
            *manifest = [&more[..], &manifest[1..]].concat();
        });
        self.folder("does not name the files of the seal", |_, _, manifest| *manifest = vec![b'['; 900_000]);
        self.folder("33554432 bytes", |_, _, manifest| *manifest = vec![b' '; HUGE as usize]);
        self.folder("no_such_column", |seal, _, _| {
            seal.columns.as_mut().unwrap().push("no_such_column".to_owned());
        });
        self.folder("the seal says 10", |seal, file, _| {
            let bomb = compress(&vec![b'\n'; 1 << 20], Compression::Zstd).unwrap();
            *file = bomb.to_vec();
            let one = &mut seal.files[0];
            (one.rows, one.bytes, one.crc32) = (10, file.len() as u64, crc32(&bomb));
            (seal.rows, seal.bytes) = (10, one.bytes);
        });
        self.folder("and 995 more", |seal, _, _| {
            let one = seal.files[0].clone();
            let file = |n| shared::seal::SealedFile { name: format!("{n}.csv.zst"), ..one.clone() };
            seal.files = (0..1_000).map(file).collect();
            (seal.rows, seal.bytes) = (1_000 * one.rows, 1_000 * one.bytes);
        });
    }

    /// Objects that S3 gives to nobody, since they are encrypted with somebody else's key: parts of their keys.
    pub(super) fn locked(&mut self) -> [String; 2] {
        self.folder("403", |seal, _, _| "\"another\"".clone_into(&mut seal.files[0].etag));
        let rows = format!("{}/0.csv.zst", self.unfit.last().unwrap().batch);
        let seal = self.next();
        self.put(&format!("{}batch.json", layout::folder("ToIngest/", seal)), "{}");
        self.unusable.push(Beast { batch: seal, why: "AccessDenied" });
        [rows, format!("{seal}/batch.json")]
    }

    /// Objects that are of no batch, `many` of them before all others in a listing.
    pub(super) fn foreign(&mut self, many: usize) {
        for n in 0..many {
            self.put(&format!("ToIngest/!/{}/{n}", n / 100), "");
        }
        let (batch, day) = (self.next(), self.opened.format("%Y%m%d"));
        let seal = serde_json::to_vec(&self.seal(batch)).unwrap();
        let capitals = batch.to_string().to_uppercase();
        let day = day.to_string();
        for name in [
            "\u{1}".to_owned(),
            "\u{1b}[2J\u{1b}]0;owned\u{7}/batch.json".to_owned(),
            format!("{day}/\nERROR owned/batch.json"),
            format!("{day}/<script>alert(1)</script>/batch.json"),
            format!("{day}/{capitals}/batch.json"),
            format!("{day}/{batch}\u{7f}/batch.json"),
            format!("{day}/{batch}/sub/batch.json"),
            format!("00010101/{batch}/batch.json"),
            format!("99991231/{batch}/batch.json"),
            format!("{day}/'; DROP TABLE livestream; --/batch.json"),
        ] {
            for prefix in ["ToIngest", "Ingested", "Quarantine", "Loads", "Rejected"] {
                self.put(&format!("{prefix}/{name}"), &seal);
            }
        }
        let set = format!("Quarantine/{}0123456789abcdef/", layout::folder("", batch));
        let other = json!({"format": 2, "batch": self.honest.batch, "schema": "\u{1b}[2J", "columns": ["\u{1b}"],
            "compression": "zstd", "rows": u64::MAX, "content": "0123456789abcdef", "bytes": [u64::MAX, u64::MAX]});
        self.put(&format!("{set}quarantine.json"), other.to_string());
        self.put(&format!("{set}reasons.ndjson"), "{}\n".repeat(100_000));
        let bomb = compress(&vec![b'\n'; 64 << 20], Compression::Zstd).unwrap();
        self.put(&format!("{set}rows.csv.zst"), &bomb);
        self.put(&format!("Rejected/{day}/sandbox-1-140000123-000000000007.ndjson.zst"), &bomb);
    }
}
