//! The command: reads the files, checks the result, and writes or prints it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure, io_exit};
use shared::ids::Instance;

use crate::commands::files::{NewFile, create_all};
use crate::commands::import::pipeline::{self, Daemon, SecretFile};

/// Where secrets are expected when nothing is written.
const DEFAULT_DIR: &str = "/etc/livestream";

/// Reads the daemon's files in `dir` (or in its `data`). With `output`, writes the configuration there and the secrets
/// beside it, all with mode 0600; without, prints the configuration to `out`. Notes go to `notes`.
pub fn import(
    dir: &Path,
    instance: &Instance,
    output: Option<&Path>,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<(), Failure> {
    let daemon = Daemon::read(dir)?;
    let beside = match output {
        Some(file) => {
            let file = std::path::absolute(file).map_err(|error| about(file, &error))?;
            file.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
        }
        None => PathBuf::from(DEFAULT_DIR),
    };
    let imported = pipeline::pipeline(daemon, instance, &beside);
    // Checked before anything is written. The secrets need not be there for that: they are named by their files.
    let origin = output.unwrap_or(Path::new("the imported configuration"));
    Config::parse(imported.text.as_str(), origin, std::iter::empty(), Secrets::Unused).map_err(|error| {
        let problems: Vec<_> =
            error.problems.iter().map(|problem| pipeline::in_words_of_the_daemon(problem)).collect();
        let error = anyhow!(
            "the daemon's files cannot be imported; correct them there:\n  {}",
            problems.join("\n  ")
        );
        Failure::new(Exit::Config, error)
    })?;
    for note in &imported.notes {
        writeln!(notes, "note: {note}")?;
    }
    match output {
        Some(file) => write_all(file, imported.text.as_str(), &beside, &imported.secrets, notes),
        None => {
            out.write_all(imported.text.as_str().as_bytes())?;
            for secret in &imported.secrets {
                let file = beside.join(secret.name);
                writeln!(notes, "to do: put {} into {}, mode 0600", secret.origin, file.display())?;
            }
            Ok(())
        }
    }
}

fn write_all(
    file: &Path,
    text: &str,
    beside: &Path,
    secrets: &[SecretFile],
    notes: &mut impl Write,
) -> Result<(), Failure> {
    let mut files: Vec<_> = secrets
        .iter()
        .map(|SecretFile { name, value, origin }| NewFile {
            path: beside.join(name),
            text: value.reveal(),
            what: origin,
        })
        .collect();
    files.push(NewFile { path: file.to_owned(), text, what: "" });
    let advice = "nothing is overwritten: move it away or name another --output";
    create_all(&files, false, advice, notes)?;
    writeln!(notes, "try it with: producer check --config {}", file.display())?;
    Ok(())
}

fn about(path: &Path, error: &io::Error) -> Failure {
    Failure::new(io_exit(error), anyhow!("{}: {error}", path.display()))
}
