//! Pausing and resuming the ingester of a configuration, whether it runs or not.

use chrono::Utc;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::loads::{Loads, Pause, Paused, Pausing, REASON_MAX};
use crate::status::ask::{PATIENCE, Service};
use crate::status::feed::Question;

/// Notes a pause, or with None that the one there is has ended, with the ingester of `config` if it runs and in its
/// database if it does not. Answers the process that runs, and what holds afterwards.
///
/// # Errors
/// When the reason is too long, the ingester refuses or the database cannot be opened.
pub async fn set_pause(
    config: &Config,
    pause: Option<Pause>,
) -> Result<(Option<u32>, Option<Paused>), Failure> {
    let length =
        pause.as_ref().and_then(|pause| pause.reason.as_ref()).map_or(0, |reason| reason.chars().count());
    if length > REASON_MAX {
        let text = format!("--reason has {length} characters, and at most {REASON_MAX} are kept");
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!(text)));
    }
    let question = pause.clone().map_or(Question::Resume, Question::Pause);
    let asked = Service::ingester(config).ask(&question, PATIENCE, Loads::open, |loads| {
        loads.set_pause(pause.as_ref())?;
        Ok(Pausing { paused: Paused::at(pause.as_ref(), &config.ingester.pause, Utc::now()) })
    });
    let part = asked.await?;
    Ok((part.pid, part.snapshot.and_then(|pausing| pausing.paused)))
}
