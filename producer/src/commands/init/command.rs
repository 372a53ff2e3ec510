//! The command: asks, writes, and says what to run next.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::anyhow;
use shared::config::Login;
use shared::exit::{Exit, Failure};
use shared::secret::Secret;

use crate::commands::files::{NewFile, create_all};
use crate::commands::init::answers::{self, Accepted};
use crate::commands::init::configuration::{Places, SCHEMA};
use crate::commands::init::questions::Flags;
use crate::commands::init::terminal::Terminal;
use crate::commands::init::{next, setup};

const ADVICE: &str = "nothing was written: give --force to replace it, or name another file with --config";

/// Writes the configuration to `file`, and what belongs to it beside it.
pub(crate) fn init(
    flags: &Flags,
    file: &Path,
    input: &mut dyn BufRead,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<(), Failure> {
    let file = std::path::absolute(file)?;
    if file.extension().is_none_or(|ending| ending != "toml") {
        let error = anyhow!(
            "{}: a configuration is named NAME.toml; name another file with --config",
            file.display()
        );
        return Err(Failure::new(Exit::Usage, error));
    }
    // Before anything is asked.
    if !flags.force && file.symlink_metadata().is_ok() {
        return Err(Failure::new(Exit::Usage, anyhow!("{} is there already; {ADVICE}", file.display())));
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let places = Places::new(file, flags, host.trim())?;
    let mut terminal = Terminal::of_standard_input(input, notes);
    let Accepted { text, config } = answers::gather(flags.answers(), &places, terminal.as_mut(), flags.yes)?;
    let secrets = secrets(&places, config.redshift.auth, terminal.as_mut().filter(|_| !flags.yes))?;
    let setup = setup::files(&config)?;

    let mut files: Vec<_> =
        setup.iter().map(|(name, text)| NewFile { path: places.setup.join(name), text, what: "" }).collect();
    if places.schema.symlink_metadata().is_err() {
        files.push(NewFile {
            path: places.schema.clone(),
            text: SCHEMA,
            what: "columns beside the built-in ones",
        });
    }
    for Wanted { path, value, what } in &secrets {
        if let Some(value) = value {
            files.push(NewFile { path: path.to_path_buf(), text: value.reveal(), what });
        }
    }
    // Last: it is there only if all that it names is.
    files.push(NewFile { path: places.file.clone(), text: &text, what: "" });
    create_all(&files, flags.force, ADVICE, notes)?;
    for Wanted { path, value, what } in &secrets {
        if value.is_none() && path.symlink_metadata().is_err() {
            writeln!(
                notes,
                "to do: put {what} into {}, mode 0640, readable by the services",
                path.display()
            )?;
        }
    }
    if places.secrets.is_none() {
        let dir = places.file.parent().unwrap_or(Path::new("/")).display();
        writeln!(notes, "to do: put LIVESTREAM__ADOBE__CLIENT_SECRET=… into {dir}/environment")?;
        if config.redshift.auth == Login::Password {
            writeln!(notes, "to do: put LIVESTREAM__REDSHIFT__PASSWORD=… into {dir}/environment")?;
        }
    }
    next::print(&config, &places, out)?;
    Ok(())
}

/// A secret that the configuration names by its file.
struct Wanted<'p> {
    path: &'p Path,
    what: &'static str,
    /// To be written; None: the file is there, or comes later.
    value: Option<Secret>,
}

/// What to write into the files of secrets: what the environment has, or what is typed. A file that is there stays.
fn secrets<'p>(
    places: &'p Places,
    auth: Login,
    mut terminal: Option<&mut Terminal<'_>>,
) -> Result<Vec<Wanted<'p>>, Failure> {
    let Some(files) = &places.secrets else { return Ok(Vec::new()) };
    let adobe = ("the client secret of Adobe", "LIVESTREAM__ADOBE__CLIENT_SECRET", &files.adobe);
    let redshift = ("the password of Redshift", "LIVESTREAM__REDSHIFT__PASSWORD", &files.redshift);
    let wanted = [Some(adobe), (auth == Login::Password).then_some(redshift)];
    let mut secrets = Vec::new();
    for (what, variable, path) in wanted.into_iter().flatten() {
        let there = path.symlink_metadata().is_ok();
        let known = std::env::var(variable).ok().filter(|value| !value.is_empty()).map(Secret::new);
        let value = match (there, known, terminal.as_deref_mut()) {
            (true, ..) => None,
            (false, Some(known), _) => Some(known),
            (false, None, Some(terminal)) => terminal
                .ask_secret(&format!("Secret: {}", what.trim_start_matches("the ")))
                .map_err(answers::ended)?,
            (false, None, None) => None,
        };
        secrets.push(Wanted { path, what, value });
    }
    Ok(secrets)
}
