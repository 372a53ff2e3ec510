//! Reading a seal. Anybody who may write into the bucket can write or damage one, so nothing in it is believed that no
//! batch can be: COPY would load what it names, and memory is taken for as many rows and bytes as it says.

use std::collections::HashSet;

use serde::Deserialize;

use crate::ids::BatchId;
use crate::layout::{Compression, parse_file_name};
use crate::schema::{MAX_COLUMNS, valid_name};
use crate::seal::format::{BadSeal, SEAL_FORMAT, Seal, SealedFile};

/// Rows of a file at most, which is the most that `batch.records_per_file` may be.
pub(crate) const MAX_FILE_ROWS: u64 = 1_000_000;
/// Bytes of rows at which a file is ended at the latest, which is the most that `batch.max_file_bytes` may be.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 30;
/// Bytes of a file's object at most: the last row may add 8 MiB of doubled quotes, compression one byte in 256.
pub const MAX_OBJECT_BYTES: u64 = MAX_FILE_BYTES + (16 << 20);

const SHOWN: usize = 60;

impl Seal {
    /// Reads the seal that stands in the folder of `batch`, and checks it.
    pub fn read(batch: BatchId, json: &[u8]) -> Result<Self, BadSeal> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json)?;
        if format > SEAL_FORMAT {
            return Err(BadSeal::Newer(format));
        }
        let seal: Self = serde_json::from_slice(json)?;
        if seal.batch != batch {
            let other = seal.batch;
            return Err(BadSeal::Contradiction(format!("it belongs to batch {other}, not to this folder")));
        }
        seal.check()?;
        Ok(seal)
    }

    /// Checks that sums add up, that each file is named once and can be of this batch, and that the columns can be.
    pub fn check(&self) -> Result<(), BadSeal> {
        let fault = self.files_fault().or_else(|| self.columns.as_deref().and_then(column_fault));
        fault.map_or(Ok(()), |fault| Err(BadSeal::Contradiction(fault)))
    }

    fn files_fault(&self) -> Option<String> {
        let mut names = HashSet::with_capacity(self.files.len());
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for (number, file) in self.files.iter().enumerate() {
            if let Some(what) = file_fault(file, self.compression) {
                return Some(format!("its file {} {what}", number + 1));
            }
            // COPY would load it as often as it is named.
            if !names.insert(file.name.as_str()) {
                return Some(format!("it names the file {} twice", file.name));
            }
            // Each is bounded, and so is the length of the list: no overflow.
            rows = rows.saturating_add(file.rows);
            bytes = bytes.saturating_add(file.bytes);
        }
        let said = format!("{} rows and {} bytes", self.rows, self.bytes);
        ((rows, bytes) != (self.rows, self.bytes))
            .then(|| format!("it says {said}, its files sum up to {rows} and {bytes}"))
    }
}

fn file_fault(file: &SealedFile, compression: Compression) -> Option<String> {
    // A file of any other name would be loaded, and neither archived nor deleted.
    match parse_file_name(&file.name) {
        None => return Some(format!("has the name \"{}\", which no file of rows has", shown(&file.name))),
        Some((_, by_name)) if by_name != compression => {
            return Some(format!("({}) is not compressed as the seal says", file.name));
        }
        Some(_) => {}
    }
    if file.rows > MAX_FILE_ROWS {
        return Some(format!(
            "({}) has {} rows, and no file has more than {MAX_FILE_ROWS}",
            file.name, file.rows
        ));
    }
    (file.bytes > MAX_OBJECT_BYTES).then(|| {
        format!("({}) has {} bytes, and no file has more than {MAX_OBJECT_BYTES}", file.name, file.bytes)
    })
}

fn column_fault(columns: &[String]) -> Option<String> {
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        return Some(format!("it names {} columns, a table has 1 to {MAX_COLUMNS}", columns.len()));
    }
    let mut names = HashSet::with_capacity(columns.len());
    columns.iter().enumerate().find_map(|(number, name)| {
        // A valid name has no capitals, so that no two of them differ by those alone.
        let what = match valid_name(name) {
            Err(rule) => format!("\"{}\": {rule}", shown(name)),
            Ok(()) if !names.insert(name) => "has the name of another one".to_owned(),
            Ok(()) => return None,
        };
        Some(format!("its column {} {what}", number + 1))
    })
}

/// A name as a message shows it: it may be of any length, and of any characters.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::format::tests::seal;

    fn read(seal: &Seal) -> Result<Seal, BadSeal> {
        Seal::read(seal.batch, &serde_json::to_vec(seal).unwrap())
    }

    fn refused(alter: impl FnOnce(&mut Seal), why: &str) {
        let mut seal = seal();
        alter(&mut seal);
        match read(&seal) {
            Err(BadSeal::Contradiction(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?} is not refused because of {why:?}"),
        }
    }

    /// With sums that agree with the files.
    fn refused_file(alter: impl FnOnce(&mut SealedFile), why: &str) {
        let sums = |seal: &mut Seal| {
            alter(&mut seal.files[1]);
            seal.rows = seal.files.iter().fold(0, |sum, file| sum.saturating_add(file.rows));
            seal.bytes = seal.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes));
        };
        refused(sums, why);
    }

    #[test]
    fn a_seal_that_contradicts_its_folder_or_itself_is_refused() {
        let good = seal();
        let of_other = Seal::read(BatchId::new(), &serde_json::to_vec(&good).unwrap());
        assert!(matches!(of_other, Err(BadSeal::Contradiction(_))));
        refused(|seal| seal.rows = 21, "sum up to 20 and 200");
        refused(|seal| seal.bytes = 199, "sum up to 20 and 200");
        assert!(matches!(read(&Seal { format: 3, ..good.clone() }), Err(BadSeal::Newer(3))));
        assert!(matches!(Seal::read(good.batch, b"{}"), Err(BadSeal::Json(_))));
    }

    #[test]
    fn numbers_that_no_file_can_have_are_refused_before_memory_is_taken_for_them() {
        refused_file(|file| file.rows = 100_000_000_000, "has 100000000000 rows");
        refused_file(|file| file.rows = MAX_FILE_ROWS + 1, "no file has more than 1000000");
        refused_file(|file| file.rows = u64::MAX, "rows");
        refused_file(|file| file.bytes = MAX_OBJECT_BYTES + 1, "has 1090519041 bytes");
        refused_file(|file| file.bytes = u64::MAX, "bytes");
        let mut largest = seal();
        (largest.files[0].rows, largest.files[0].bytes) = (MAX_FILE_ROWS, MAX_OBJECT_BYTES);
        (largest.rows, largest.bytes) = (MAX_FILE_ROWS + 10, MAX_OBJECT_BYTES + 100);
        assert_eq!(read(&largest).unwrap(), largest);
        let mut counts = seal();
        (counts.counts.duplicates, counts.counts.filtered) = (u64::MAX, u64::MAX);
        assert!(!read(&counts).unwrap().counts.add_up());
    }

    #[test]
    fn a_file_that_is_named_twice_is_refused() {
        refused_file(|file| "0.csv.zst".clone_into(&mut file.name), "the file 0.csv.zst twice");
    }

    #[test]
    fn a_file_is_named_as_files_of_its_compression_are() {
        for name in ["00.csv.zst", "x.csv.zst", "../0.csv.zst", "1.csv.zst.bak", "manifest.json", "", "1\n"] {
            refused_file(|file| name.clone_into(&mut file.name), "which no file of rows has");
        }
        refused_file(|file| file.name = "é".repeat(5_000), &format!("\"{}\"", "é".repeat(SHOWN)));
        refused_file(|file| "1.csv.gz".clone_into(&mut file.name), "not compressed as the seal says");
        refused_file(|file| "1.csv".clone_into(&mut file.name), "not compressed as the seal says");
    }

    #[test]
    fn what_the_previous_version_wrote_is_read() {
        for (suffix, compression) in
            [(".csv.zst", Compression::Zstd), (".csv.gz", Compression::Gzip), (".csv", Compression::None)]
        {
            let mut old = Seal { format: 1, columns: None, content: None, compared: None, ..seal() };
            old.compression = compression;
            old.files.iter_mut().enumerate().for_each(|(n, file)| file.name = format!("{n}{suffix}"));
            assert_eq!(read(&old).unwrap(), old);
        }
        // A batch of which a file in between is gone is sealed by hand.
        let mut adopted = seal();
        "7.csv.zst".clone_into(&mut adopted.files[1].name);
        assert_eq!(read(&adopted).unwrap(), adopted);
    }

    #[test]
    fn columns_that_no_table_can_have_are_refused() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let long = "a".repeat(128);
        let cases: [(&[&str], &str); 10] = [
            (&[], "names 0 columns"),
            (&["a", ""], "its column 2 \"\": a name consists of"),
            (&["a", "b", "a"], "column 3 has the name of another one"),
            (&["a", "A"], "its column 2 \"A\": a name consists of"),
            (&["a", "b\n"], "\"b\\n\": a name consists of"),
            (&["a\"b"], "a name consists of"),
            (&["a", "oid"], "\"oid\": Redshift has a system column"),
            (&["xmin"], "Redshift has a system column"),
            (&["livestream_n"], "is needed for"),
            (&[&long], "at most 127 bytes, this one 128"),
        ];
        for (columns, why) in cases {
            refused(|seal| seal.columns = names(columns), why);
        }
        refused(|seal| seal.columns = Some((0..=MAX_COLUMNS).map(|n| format!("c{n}")).collect()), "1601");
        let one = Seal { columns: names(&["a"]), ..seal() };
        assert_eq!(read(&one).unwrap(), one);
    }
}
