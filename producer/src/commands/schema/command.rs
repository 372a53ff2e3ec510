//! What is asked, and who answers.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::ArgGroup;
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};
use state::status::drift::SeenFields;
use state::status::feed::{self, AskError, Question};

use crate::commands::schema::explain::{as_json, explain, read, table};
use crate::commands::schema::file::{Looked, look};
use crate::commands::schema::seen;
use crate::commands::schema::suggest::suggest;

/// What `producer schema` is asked.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("fields").args(["seen", "suggest"])))]
pub(crate) struct Asked {
    /// Print JSON instead of a table.
    #[arg(long, conflicts_with = "suggest")]
    json: bool,
    /// Show what becomes of the record in FILE (`-` is standard input): a JSON object, or the first line of NDJSON.
    ///
    /// Says of each value what its rule or [protect] did to it, and shows nothing of one that is protected.
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    explain: Option<PathBuf>,
    /// Show the fields that the stream brings: their types, how many records have them, and what is not as it was.
    ///
    /// Asks the producer that runs, which looks at one record in 128; with --input, reads a file instead. Shows the form of
    /// values, never a value.
    #[arg(long)]
    seen: bool,
    /// Write a schema file of the columns that this stream fills, with widths that fit, and a column for the record.
    ///
    /// Takes the columns of the schema in force that have values or that [protect] names, and fields that are in no column and
    /// have one type.
    #[arg(long)]
    suggest: bool,
    /// Look at all records of FILE instead of asking the producer: lines of JSON, plain or compressed with gzip or zstd.
    #[arg(long, value_name = "FILE", requires = "fields")]
    input: Option<PathBuf>,
}

impl Asked {
    pub(crate) async fn print(
        &self,
        config: &Path,
        clock: &Clock,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let config = Config::load(config, Secrets::Unused)?;
        let schema = config.schema.load()?;
        let mut transform = crate::configured::transform(&config, &schema)?;
        if self.seen || self.suggest {
            let looked = match &self.input {
                Some(file) => look(file, &config, &schema, transform, clock)?,
                None => Looked::of_stream(ask(&config).await?),
            };
            return match self.suggest {
                true => suggest(&schema, &looked, &config.protect, clock, out),
                false => seen::print(&looked.seen, self.json, clock.wall(), out),
            };
        }
        match &self.explain {
            None if self.json => Ok(writeln!(out, "{:#}", as_json(&schema, &transform))?),
            None => table(&schema, &transform, out),
            Some(file) => explain(&schema, &mut transform, &read(file)?, self.json, out),
        }
    }
}

/// What the producer that runs has seen.
async fn ask(config: &Config) -> Result<SeenFields, Failure> {
    let socket = config.producer_socket();
    let at = socket.display();
    match feed::ask::<SeenFields>(&socket, &Question::Seen).await {
        Ok(answer) => Ok(answer.snapshot),
        Err(AskError::Nobody(error)) => Err(Failure::new(
            Exit::Unavailable,
            anyhow!("no producer answers on {at} ({error}): start it, or give records with --input FILE"),
        )),
        Err(error) => Err(Failure::new(Exit::Unavailable, anyhow!("asked on {at}: {error}"))),
    }
}
