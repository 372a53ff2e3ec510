//! `ingester forget` beside another run of it, and beside an archive that puts away what it has put away before.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use sandbox::judge::files_below;
use sandbox::s3::{self, BUCKET};
use sandbox::service;

use super::{COLUMN, Person, decompressed, found_in, loaded};
use crate::world::World;

/// Longer than a whole run.
const HELD: Duration = Duration::from_secs(15);

impl World {
    fn start_forget_of(&self, values: &BTreeSet<String>, file: &str) -> Child {
        let path = self.path(file);
        fs::write(&path, values.iter().map(|value| format!("{value}\n")).collect::<String>()).unwrap();
        let args = ["forget", "--column", COLUMN, "--file", path.to_str().unwrap(), "--yes"];
        let mut command = service::command("ingester", &args, &self.config).unwrap();
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The archived folder of a batch with rows of the person, and its files with their contents.
    fn archived_folder(&self, values: &BTreeSet<String>) -> (PathBuf, Vec<(PathBuf, Vec<u8>)>) {
        let of_person = |path: &&PathBuf| {
            let name = path.to_string_lossy();
            name.contains("/Ingested/")
                && name.contains(".csv")
                && !found_in(&decompressed(path), values).is_empty()
        };
        let objects = self.object_files();
        let folder = objects.iter().find(of_person).unwrap().parent().unwrap().to_owned();
        let files = files_below(&folder).unwrap();
        let content = files.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        (folder, content)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_and_a_repeated_archive_bring_no_row_back() {
    let (world, mut producer, mut ingester) = loaded(900, "zstd", true).await;
    let person = Person::of(&world);
    let (folder, content) = world.archived_folder(&person.values);
    let (first, second): (Vec<_>, Vec<_>) =
        person.values.iter().cloned().enumerate().partition(|(number, _)| number % 2 == 0);
    let values =
        |half: Vec<(usize, String)>| half.into_iter().map(|(_, value)| value).collect::<BTreeSet<_>>();
    let (first, second) = (values(first), values(second));

    // One has read a folder, and is about to write its seal when the other does all its work.
    let store = world.standins.s3.faults().clone();
    let key = "/batch.json".to_owned();
    store.push(s3::Fault { operation: Some(s3::Operation::Put), key, side: s3::Side::Slow(HELD) });
    let mut held = world.start_forget_of(&first, "first.txt");
    let struck = async || store.pending() == 0;
    world.until("the run held", &mut [], struck).await;
    let mut other = world.start_forget_of(&second, "second.txt");
    assert_eq!(other.wait().unwrap().code(), Some(0));
    assert!(held.try_wait().unwrap().is_none(), "it was to be held longer");
    assert_eq!(held.wait().unwrap().code(), Some(0));
    world.assert_forgotten(&person).await;

    // A producer, or a person, uploads the batch once more as it was: it is put away again.
    let (_, below) = folder.to_str().unwrap().split_once("/Ingested/").unwrap();
    let waiting = world.path("s3").join(BUCKET).join("ToIngest").join(below);
    fs::create_dir_all(&waiting).unwrap();
    let is_seal = |path: &PathBuf| path.ends_with("batch.json");
    for last in [false, true] {
        for (path, content) in content.iter().filter(|(path, _)| is_seal(path) == last) {
            fs::write(waiting.join(path.file_name().unwrap()), content).unwrap();
        }
    }
    let gone = async || !waiting.join("batch.json").exists();
    world.until("the folder is put away again", &mut [&mut producer, &mut ingester], gone).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    world.assert_forgotten(&person).await;
}
