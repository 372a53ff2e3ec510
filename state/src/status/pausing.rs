//! Pauses and resumes the ingester of a configuration, whether it runs or not.

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::loads::{Loads, Pause, Paused, Pausing, REASON_MAX};
use crate::status::feed::Question;
use crate::status::service::Service;

/// Stores a pause, or with None its end, through the ingester if it runs and in its database if not. Returns the
/// process that runs, and what holds afterwards.
pub async fn set_pause(
    config: &Config,
    clock: &Clock,
    pause: Option<Pause>,
) -> Result<(Option<u32>, Option<Paused>), Failure> {
    let reason = pause.as_ref().and_then(|pause| pause.reason.as_ref());
    let length = reason.map_or(0, |reason| reason.chars().count());
    if length > REASON_MAX {
        let text = format!("--reason has {length} characters, and at most {REASON_MAX} are kept");
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!(text)));
    }
    let question = pause.clone().map_or(Question::Resume, Question::Pause);
    let mut ingester = Service::ingester(config, clock);
    ingester.open = Loads::open;
    let store = |loads: &Loads| {
        loads.set_pause(pause.as_ref())?;
        Ok(Pausing { paused: Paused::at(pause.as_ref(), &config.ingester.pause, clock.wall()) })
    };
    let part = ingester.ask(&question, store).await?;
    Ok((part.pid, part.snapshot.and_then(|pausing| pausing.paused)))
}
