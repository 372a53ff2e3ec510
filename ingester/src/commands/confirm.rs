//! Asks before something is done that cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use shared::exit::{Exit, Failure};

/// Asks, unless `yes`. Exit 64 when the answer is no, or nobody can be asked.
pub(crate) fn confirm(yes: bool, question: &str, out: &mut impl Write) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let error = anyhow::anyhow!("{question} Nobody can be asked here: give --yes if so");
        return Err(Failure::new(Exit::Usage, error));
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Usage, anyhow::anyhow!("nothing was changed"))),
    }
}
