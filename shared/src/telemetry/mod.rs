//! Logging: `tracing` to standard error, for people or as JSON, and to a file a day that rolls at 00:00 UTC.

mod daily;

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use self::daily::Daily;
use crate::clock::Clock;
use crate::config::{LogFormat, Logging};
use crate::dirs;
use crate::exit::{Exit, Failure, io_exit};
use crate::report::{Step, failed};

/// Writes the log file until it is dropped; hold it in `main`.
#[must_use]
#[derive(Debug)]
pub struct Telemetry {
    _file: Option<WorkerGuard>,
    level: LogLevel,
}

/// What is logged, which may change while a service runs. Clones change the same.
#[derive(Debug, Clone)]
pub struct LogLevel(Vec<reload::Handle<EnvFilter, Registry>>);

impl LogLevel {
    /// Fails if this is no `logging.level`.
    pub fn check(level: &str) -> Result<(), Failure> {
        filter(level).map(drop)
    }

    /// Logs by this `logging.level` from now on.
    pub fn set(&self, level: &str) -> Result<(), Failure> {
        for handle in &self.0 {
            handle.reload(filter(level)?).map_err(|error| Failure::new(Exit::Software, error))?;
        }
        Ok(())
    }
}

impl Telemetry {
    /// What is logged.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }
}

fn filter(level: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(directives(level)).map_err(|error| {
        let text = format!("logging.level: {level:?} is not a filter: {error}");
        Failure::new(Exit::Config, anyhow::anyhow!(text))
    })
}

const DIR_KEY: &str = "logging.dir";

/// Starts logging for `service`, whose name begins the names of the log files.
pub fn start(config: &Logging, service: &str, clock: &Clock) -> Result<Telemetry, Failure> {
    let mut handles = Vec::new();
    let mut filter = || {
        let (filter, handle) = reload::Layer::new(filter(&config.level)?);
        handles.push(handle);
        Ok::<_, Failure>(filter)
    };
    let mut layers =
        vec![layer(config.format, crate::out::stderr, std::io::stderr().is_terminal(), filter()?)];
    let mut guard = None;
    if !config.dir.as_os_str().is_empty() {
        dirs::make(DIR_KEY, &config.dir)?;
        let today = daily::today(&config.dir, service, clock);
        dirs::try_files(DIR_KEY, &config.dir, &[today])?;
        let file = Daily::open(clock.clone(), &config.dir, service, config.keep_days).map_err(|error| {
            let text = format!("{DIR_KEY}: cannot write log files in {}: {error}", config.dir.display());
            Failure::new(io_exit(&error), anyhow::anyhow!(text))
        })?;
        let (writer, worker) = tracing_appender::non_blocking(file);
        layers.push(layer(config.format, writer, false, filter()?));
        guard = Some(worker);
    }
    tracing_subscriber::registry().with(layers).try_init().map_err(|e| Failure::new(Exit::Software, e))?;
    if guard.is_some() {
        // After logging has started, so that a failure is logged.
        daily::prune(&config.dir, service, config.keep_days, clock.wall().date_naive());
    }
    Ok(Telemetry { _file: guard, level: LogLevel(handles) })
}

/// Tries what [`start`] needs of `logging.dir`, and leaves nothing behind.
pub fn try_dir(config: &Logging, service: &str, clock: &Clock) -> Step {
    let dir = &config.dir;
    if dir.as_os_str().is_empty() {
        return Step::Skipped("logging.dir is empty: the service logs to standard error only".to_owned());
    }
    let tried = dirs::try_out(DIR_KEY, dir).and_then(|tried| {
        let today = daily::today(dir, service, clock);
        dirs::try_files(DIR_KEY, dir, &[today]).map(|()| tried.told(dir))
    });
    Step::Tried(tried.map_err(failed))
}

/// The crates that hold to what logs may carry: ids, counts and positions.
const OWN: [&str; 4] = ["producer", "ingester", "state", "shared"];

/// The filter for `logging.level`. A level without a target is that of the programs; of libraries, whose words name
/// nothing that an operator knows, it lets errors through.
fn directives(level: &str) -> String {
    let all = level.split(',').map(str::trim).filter(|part| !part.contains('='));
    let named = level.split(',').map(str::trim).filter(|part| part.contains('='));
    let all: Vec<_> = all.collect();
    let of_libraries =
        all.last().map(|level| if level.eq_ignore_ascii_case("off") { "off" } else { "error" });
    let own = all.last().into_iter().flat_map(|level| OWN.map(|target| format!("{target}={level}")));
    let parts = of_libraries.map(str::to_owned).into_iter().chain(own).chain(named.map(str::to_owned));
    parts.collect::<Vec<_>>().join(",")
}

/// Below `info` libraries log what they send and receive: bodies, headers, rows. No filter gets that.
fn may_be_logged(event: &Metadata<'_>) -> bool {
    let of = event.target().split("::").next().unwrap_or_default();
    OWN.contains(&of) || *event.level() <= Level::INFO
}

fn layer<W>(
    format: LogFormat,
    writer: W,
    colour: bool,
    filter: reload::Layer<EnvFilter, Registry>,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    // A complaint about a failed write would itself fail, and end the thread.
    let layer = tracing_subscriber::fmt::layer();
    let layer = layer.with_writer(writer).with_ansi(colour).log_internal_errors(false);
    let filter = filter.and(filter_fn(may_be_logged));
    match format {
        LogFormat::Human => layer.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::directives;

    #[test]
    fn of_libraries_only_errors_are_logged_unless_they_are_named() {
        let own = "producer=info,ingester=info,state=info,shared=info";
        assert_eq!(directives("info"), format!("error,{own}"));
        assert_eq!(directives("info, aws_config=warn"), format!("error,{own},aws_config=warn"));
        assert!(directives("off").starts_with("off,producer=off"));
    }
}
