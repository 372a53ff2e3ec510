//! Whether a part of a batch is in S3 at another place than the configuration names.

use shared::config::Config;
use shared::exit::Exit;
use shared::human::counted;
use shared::report::{Step, failed};
use state::log::{FileStatus, LogError, LogReader, Settings};
use state::store::StoreError;

/// What the log says of batches that are half written.
pub(super) fn half_written(config: &Config) -> Step {
    if state::in_use(&config.log.dir).unwrap_or(false) {
        return Step::Skipped("the log is in use: its producer finishes what is half written".to_owned());
    }
    let log = match LogReader::open_to_read(&config.log.dir) {
        Ok(log) => log,
        Err(StoreError::Missing(_)) => return Step::Skipped("there is no log yet".to_owned()),
        Err(error) => return Step::Tried(Err(failed(LogError::from(error)))),
    };
    Step::Tried(of_this_instance(&log, config).and_then(|()| read(&log, config).map_err(failed)))
}

/// Whether `producer run` would take the log.
fn of_this_instance(log: &LogReader, config: &Config) -> Result<(), (Exit, String)> {
    let (owner, instance) = (log.instance().map_err(LogError::from).map_err(failed)?, &config.instance.name);
    if owner == *instance {
        return Ok(());
    }
    let dir = config.log.dir.display();
    let what = format!("{dir} belongs to instance {owner}, not to {instance}");
    Err((Exit::Data, format!("{what}: set instance.name to {owner}, or log.dir to another directory")))
}

fn read(log: &LogReader, config: &Config) -> Result<String, LogError> {
    for batch in log.bound_elsewhere(&Settings::place_of(config))? {
        let files = log.files_of(&batch)?;
        let uploaded = files.iter().filter(|file| matches!(file.status, FileStatus::Uploaded(_))).count();
        if uploaded > 0 {
            let files = counted(files.len() as u64, "file", "files");
            return Ok(format!(
                "{uploaded} of {files} of batch {} uploaded to {}: `producer run` finishes it there, and an ingester that \
                 reads that place must load it",
                batch.id, batch.place
            ));
        }
    }
    Ok("none in another bucket or prefix".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::DateTime;
    use shared::config::Secrets;
    use state::log::{Log, Upload};

    use super::*;

    fn config(dir: &Path, prefix: &str) -> Config {
        let text = format!(
            "[instance]\nname = \"test\"\n[adobe]\nclient_id = \"c\"\nclient_secret = \"s\"\n\
             stream_url = \"https://livestream.adobe.net/api/1/stream/x\"\n[log]\ndir = \"{}\"\n\
             [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\nto_ingest = \"{prefix}\"\n\
             [redshift]\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\niam_role = \"default\"\n",
            dir.display()
        );
        Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Producer).unwrap()
    }

    #[test]
    fn a_batch_that_is_half_at_the_old_place_is_told_and_one_that_can_move_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (config(dir.path(), "Old/"), config(dir.path(), "New/"));
        assert!(matches!(half_written(&old), Step::Skipped(_)), "no log yet");
        let now = DateTime::UNIX_EPOCH;
        let settings = Settings::of(&old, &old.schema.load().unwrap());
        let (mut log, _) = Log::open(settings.clone(), now).unwrap();
        assert!(matches!(half_written(&old), Step::Skipped(_)), "it is open");
        log.stage_row(0, None, None, b"1~row\n", now);
        log.seal_all(now).unwrap();
        let id = log.reader().batch(0).unwrap().id;
        drop(log);
        let none = |config| match half_written(config) {
            Step::Tried(Ok(said)) => said.starts_with("none "),
            _ => false,
        };
        assert!(none(&old) && none(&new));

        let (mut log, _) = Log::open(settings, now).unwrap();
        let upload = Upload { bytes: 1, crc32: String::new(), etag: String::new(), content: None };
        log.uploaded(0, upload).unwrap();
        drop(log);
        assert!(none(&old));
        let Step::Tried(Ok(said)) = half_written(&new) else { panic!() };
        assert!(said.starts_with(&format!("1 of 1 file of batch {id} uploaded to s3://b/Old/: ")), "{said}");
    }
}
