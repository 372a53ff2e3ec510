//! The loop: hears of the services, takes keys, draws.

use std::io::{self, IsTerminal};
use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::Span;
use shared::ids::{BatchId, BatchPrefix};
use shared::out;
use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::inspect::dump::{BatchDump, read_loads};
use crate::loads::LoadDatabase;
use crate::log::LogReader;
use crate::status::batch_detail::BatchDetail;
use crate::status::feed::{Owner, Question};
use crate::status::service::{Part, Service};
use crate::status::snapshot::{IngesterSnapshot, Matching, ProducerSnapshot};
use crate::watch::ask::{self, Heard, Pace};
use crate::watch::keys::{self, Input};
use crate::watch::model::{Asks, Key, Model};
use crate::watch::screen::Screen;
use crate::watch::view::{Palette, draw};

const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_hours(1);
/// Ages go on so often, whatever is heard.
const TICK: Duration = Duration::from_secs(1);
/// What was heard and waits to be shown.
const NEWS_WAITING: usize = 16;

/// What to show, and how often to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchForm {
    /// Ask the services so often.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Span,
    /// Begin with only what is pending; p shows all.
    #[arg(long)]
    pending: bool,
}

fn interval(text: &str) -> Result<Span, &'static str> {
    let span = Span::parse(text).ok_or("write a number and one of ms, s, m, h, such as 5s")?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&span.0) { Ok(span) } else { Err("200ms to 1h are possible") }
}

/// What is heard, of whom.
enum News {
    Producer(Heard<ProducerSnapshot>),
    Ingester(Heard<IngesterSnapshot>),
    Batch(BatchId, Heard<Matching<BatchDetail>>),
}

/// Shows both services until a key or a signal ends it.
pub(crate) async fn watch(
    form: &WatchForm,
    config: &Config,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        let text = "standard output is no terminal, which `state watch` needs: use `state dump`, or `state dump --json`";
        return Err(Failure::new(Exit::Usage, anyhow::anyhow!(text)));
    }
    let mut screen = Screen::take()?;
    let (tell, mut news) = mpsc::channel(NEWS_WAITING);
    let (again, asked_again) = watch::channel(0);
    let pace = Pace { clock: clock.clone(), interval: form.interval.0, again: asked_again };
    let mut watching = Watching {
        config,
        clock,
        pace,
        news: tell,
        again,
        tasks: JoinSet::new(),
        opened: None,
        model: Model::new(config.ingester.alert_after, form.pending, clock.wall()),
    };
    watching.ask();
    let mut keys = keys::read()?;
    let palette = Palette { colours: out::colours() };
    loop {
        screen.terminal.draw(|frame| draw(frame, &mut watching.model, palette))?;
        tokio::select! {
            () = shutdown.stopping() => return Ok(()),
            input = keys.recv() => match input {
                Some(Input::Key(key)) => if watching.key(key) { return Ok(()) },
                Some(Input::Resized) => {}
                // The terminal is gone.
                None => return Ok(()),
            },
            heard = news.recv() => {
                let mut next = heard;
                while let Some(heard) = next {
                    watching.hear(heard);
                    next = news.try_recv().ok();
                }
            }
            () = clock.sleep(TICK) => {}
            Some(Err(error)) = watching.tasks.join_next(), if !watching.tasks.is_empty() => {
                if !error.is_cancelled() {
                    return Err(Failure::new(Exit::Software, error));
                }
            }
        }
        watching.refresh();
    }
}

struct Watching<'c> {
    config: &'c Config,
    clock: &'c Clock,
    pace: Pace,
    news: mpsc::Sender<News>,
    again: watch::Sender<u64>,
    tasks: JoinSet<()>,
    /// What asks for the batch that is looked into, and what the producer said of it last.
    opened: Option<(AbortHandle, Option<Heard<Matching<BatchDetail>>>)>,
    model: Model,
}

impl Watching<'_> {
    fn ask(&mut self) {
        let (news, pace) = (self.news.clone(), self.pace.clone());
        let producer = Service::producer(self.config, self.clock);
        let question = Question::Snapshot;
        self.tasks.spawn(ask::ask(producer, question.clone(), Owner::snapshot, pace, News::Producer, news));
        let (news, pace) = (self.news.clone(), self.pace.clone());
        let ingester = Service::ingester(self.config, self.clock);
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let read = move |loads: &LoadDatabase| read_loads(&config, &clock, loads);
        self.tasks.spawn(ask::ask(ingester, question, read, pace, News::Ingester, news));
    }

    fn hear(&mut self, news: News) {
        let now = self.clock.now();
        match news {
            News::Producer(heard) => self.model.hear_producer(heard, now.wall, now.steady),
            News::Ingester(heard) => self.model.hear_ingester(heard, now.wall),
            News::Batch(_, Heard::Asked) => {}
            News::Batch(batch, heard) => {
                let is_open = self.model.opened.as_ref().is_some_and(|opened| opened.batch == batch);
                if let Some((_, said)) = self.opened.as_mut().filter(|_| is_open) {
                    *said = Some(heard);
                }
            }
        }
    }

    /// True when it ends.
    fn key(&mut self, key: Key) -> bool {
        match self.model.key(key) {
            Asks::Nothing => {}
            Asks::Quit => return true,
            Asks::Again => self.again.send_modify(|times| *times += 1),
            Asks::Close => self.close(),
            Asks::Open(batch) => self.open(batch),
        }
        false
    }

    fn close(&mut self) {
        if let Some((asking, _)) = self.opened.take() {
            asking.abort();
        }
    }

    /// What the ingester knows of the batch is in its snapshot; only the producer is asked for more.
    fn open(&mut self, batch: BatchId) {
        self.close();
        let prefix = BatchPrefix::from(batch);
        let (news, pace) = (self.news.clone(), self.pace.clone());
        let producer = Service::producer(self.config, self.clock);
        let hear = move |heard| News::Batch(batch, heard);
        let question = Question::Batch(prefix.clone());
        let read = move |log: &LogReader| Owner::batch(log, &prefix);
        let asking = self.tasks.spawn(ask::ask(producer, question, read, pace, hear, news));
        self.opened = Some((asking, None));
    }

    fn refresh(&mut self) {
        let now = self.clock.wall();
        self.model.refresh(now);
        let batch = self.model.opened.as_ref().map(|opened| opened.batch);
        let said = self.opened.as_ref().and_then(|(_, said)| said.as_ref());
        let Some((batch, said)) = batch.zip(said) else { return };
        let (producer, trouble) = match said {
            Heard::Part(part) => (part.clone().map(|found| found.batch), None),
            Heard::Trouble(why) => (self.model.producer.part.clone().map(|_| None), Some(why)),
            Heard::Asked => return,
        };
        let load = |ingester: IngesterSnapshot| ingester.loads.into_iter().find(|load| load.batch == batch);
        let ingester: Part<_> = self.model.ingester.part.clone().map(load);
        let table = BatchDump::of(self.config, now, batch, producer, ingester).table();
        let trouble = trouble.map(|why| format!("✗ no answer of the producer: {why}\n")).unwrap_or_default();
        self.model.tell_batch(batch, trouble + &table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_its_unit_and_its_bounds() {
        assert_eq!(interval("5s"), Ok(Span(Duration::from_secs(5))));
        for wrong in ["5", "1ms", "2h"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
