//! `ingester pause` and `ingester resume`: the ingester of this configuration and no other, whether it runs or not.

use std::io::Write;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use state::loads::Pause;
use state::status;

/// Pauses, or resumes without a pause, and says on `out` what holds afterwards.
pub(crate) async fn set_pause(
    config: &Config,
    clock: &Clock,
    pause: Option<Pause>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (pid, paused) = status::set_pause(config, clock, pause).await?;
    let who = match pid {
        Some(pid) => format!("the ingester, process {pid},"),
        None => "the ingester does not run; started, it".to_owned(),
    };
    let does = match &paused {
        Some(paused) => format!("loads nothing {}", paused.describe()),
        None => "loads".to_owned(),
    };
    writeln!(out, "{who} {does} ({})", config.ingester.dir.display())?;
    Ok(())
}
