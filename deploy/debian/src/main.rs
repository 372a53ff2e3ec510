//! Writes the manual pages and the completions of all programs, from the commands that the programs themselves parse. In a
//! program of its own, so that the services carry nothing of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use shared::exit::{Failure, with_codes};

/// Write manual pages and completions of producer, ingester and state.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  manual target/manual")]
struct Cli {
    /// Write into DIR: `man`, `bash`, `zsh` and `fish`. What is there goes.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    shared::exit::main(|cli: Cli| write(&cli.dir))
}

fn commands() -> [Command; 3] {
    [producer::Cli::command(), ingester::Cli::command(), state::cli::Cli::command()]
        .map(|command| with_codes(command).disable_help_subcommand(true))
}

fn write(dir: &Path) -> Result<(), Failure> {
    for (name, shell) in [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)] {
        let dir = empty(dir, name)?;
        for mut command in commands() {
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut script);
            // As each shell looks for them.
            let file = match shell {
                Shell::Zsh => format!("_{name}"),
                Shell::Fish => format!("{name}.fish"),
                _ => name,
            };
            fs::write(dir.join(file), script)?;
        }
    }
    let dir = empty(dir, "man")?;
    for mut command in commands() {
        command.build();
        page(&command, &[], &dir)?;
    }
    Ok(())
}

fn empty(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let dir = dir.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The page of a command, such as `producer-check.1`, and those of the commands below it.
fn page(command: &Command, above: &[&str], dir: &Path) -> Result<(), Failure> {
    let path = [above, &[command.get_name()]].concat();
    let name = path.join("-");
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("livestream {}", env!("CARGO_PKG_VERSION")))
        .manual("Adobe Livestream to Amazon Redshift");
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs::write(dir.join(format!("{name}.1")), text)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| page(below, &path, dir))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_exit_codes_and_every_shell_a_completion() {
        let dir = tempfile::tempdir().unwrap();
        // Twice: what an earlier run has left goes.
        fs::create_dir_all(dir.path().join("man")).unwrap();
        fs::write(dir.path().join("man/gone.1"), "").unwrap();
        write(dir.path()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        for name in ["producer", "producer-run", "producer-init", "ingester-ledger-trim", "state-dump"] {
            let page = read(&format!("man/{name}.1"));
            assert!(page.contains("Exit codes:") && page.contains(&name.to_uppercase()), "{name}: {page}");
        }
        assert!(!dir.path().join("man/gone.1").exists());
        assert!(read("bash/producer").contains("import-config"));
        assert!(read("zsh/_ingester").starts_with("#compdef ingester"));
        assert!(read("fish/state.fish").contains("dump"));
    }
}
