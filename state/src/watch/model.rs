//! What is shown, and what keys change of it. Pure: the screen draws it, the command feeds it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::widgets::TableState;
use shared::clock::{Steady, age};
use shared::ids::BatchId;

use crate::inspect::dump::{BatchLine, Dump};
use crate::status::service::Part;
use crate::status::snapshot::{IngesterSnapshot, ProducerSnapshot};
use crate::watch::ask::Heard;
use crate::watch::rates::Rates;

/// An answer that takes longer is worth a word.
const LATE: Duration = Duration::from_secs(3);

/// One service, as far as it was heard of.
#[derive(Debug)]
pub(super) struct Side<T> {
    pub(super) part: Part<T>,
    asked: Option<DateTime<Utc>>,
    heard: Option<DateTime<Utc>>,
    trouble: Option<String>,
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contact {
    /// It was not heard of yet.
    Asking,
    Running {
        pid: u32,
    },
    /// It has not answered since then, or never did.
    Silent {
        since: Option<DateTime<Utc>>,
        why: String,
    },
    Stopped {
        since: Option<DateTime<Utc>>,
        read: Option<DateTime<Utc>>,
    },
    NeverRan,
}

impl<T> Side<T> {
    fn new() -> Self {
        let part = Part::new(None, String::new(), None, None);
        Self { part, asked: None, heard: None, trouble: None }
    }

    fn hear(&mut self, heard: Heard<T>, now: DateTime<Utc>) {
        match heard {
            Heard::Asked => {
                self.asked.get_or_insert(now);
            }
            Heard::Part(part) => {
                (self.part, self.heard, self.asked, self.trouble) = (part, Some(now), None, None);
            }
            Heard::Trouble(why) => (self.trouble, self.asked) = (Some(why), None),
        }
    }

    pub(super) fn contact(&self, now: DateTime<Utc>) -> Contact {
        let late = self.part.pid.is_some() && self.asked.is_some_and(|asked| age(asked, now) > LATE);
        match (&self.trouble, self.heard, self.part.pid) {
            (Some(why), since, _) => Contact::Silent { since, why: why.clone() },
            (None, since, _) if late => {
                Contact::Silent { since, why: "its service is stopped or overloaded".to_owned() }
            }
            (None, None, _) => Contact::Asking,
            (None, Some(_), Some(pid)) => Contact::Running { pid },
            (None, read, None) if self.part.snapshot.is_some() => {
                Contact::Stopped { since: self.part.stopped, read }
            }
            (None, Some(_), None) => Contact::NeverRan,
        }
    }
}

/// What fills the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Batches,
    Alerts,
    Gaps,
    Quarantine,
    Components,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Batches, Self::Alerts, Self::Gaps, Self::Quarantine, Self::Components];

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// One batch that is looked into.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) batch: BatchId,
    /// As `state dump --batch` has it; None before it was read.
    pub(super) text: Option<String>,
}

/// A key, as far as it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Help,
    Enter,
    Back,
    NextTab,
    LastTab,
    Tab(Tab),
    Pending,
    Again,
    /// Lines down, or up if negative.
    Move(i32),
    /// Screens down.
    Page(i32),
    First,
    Last,
}

/// What a key asks of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Nothing,
    Quit,
    /// Read once more what is not running.
    Again,
    Open(BatchId),
    Close,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) producer: Side<ProducerSnapshot>,
    pub(super) ingester: Side<IngesterSnapshot>,
    pub(super) dump: Dump,
    /// Newest first.
    pub(super) lines: Vec<BatchLine>,
    pub(super) rates: Rates,
    pub(super) now: DateTime<Utc>,
    pub(super) tab: Tab,
    pub(super) only_pending: bool,
    pub(super) help: bool,
    pub(super) opened: Option<Opened>,
    selected: Option<BatchId>,
    /// Where the table stands.
    pub(super) table: TableState,
    /// Lines that a text is scrolled down. The view keeps it within the text.
    pub(super) scroll: u16,
    /// Lines of the lower half, as drawn last.
    pub(super) page: u16,
    alert_after: u32,
}

impl Model {
    pub(super) fn new(alert_after: u32, only_pending: bool, now: DateTime<Utc>) -> Self {
        let (producer, ingester) = (Side::new(), Side::new());
        let dump = Dump::of(producer.part.clone(), ingester.part.clone(), now, alert_after);
        Self {
            producer,
            ingester,
            dump,
            lines: Vec::new(),
            rates: Rates::default(),
            now,
            tab: Tab::Batches,
            only_pending,
            help: false,
            opened: None,
            selected: None,
            table: TableState::default(),
            scroll: 0,
            page: 10,
            alert_after,
        }
    }

    pub(super) fn hear_producer(&mut self, heard: Heard<ProducerSnapshot>, now: DateTime<Utc>, at: Steady) {
        match &heard {
            Heard::Part(Part { pid: Some(_), snapshot: Some(snapshot), .. }) => self.rates.add(at, snapshot),
            Heard::Asked => {}
            Heard::Part(_) | Heard::Trouble(_) => self.rates.clear(),
        }
        self.producer.hear(heard, now);
    }

    pub(super) fn hear_ingester(&mut self, heard: Heard<IngesterSnapshot>, now: DateTime<Utc>) {
        self.ingester.hear(heard, now);
    }

    /// Takes what was heard to the screen.
    pub(super) fn refresh(&mut self, now: DateTime<Utc>) {
        self.now = now;
        let (producer, ingester) = (self.producer.part.clone(), self.ingester.part.clone());
        self.dump = Dump::of(producer, ingester, now, self.alert_after);
        self.list();
    }

    fn list(&mut self) {
        self.lines = self.dump.batch_lines();
        if self.only_pending {
            self.lines.retain(|line| line.pending);
        }
        self.lines.reverse();
        // The batch stays selected while newer ones come before it.
        let at = self.selected.and_then(|id| self.lines.iter().position(|line| line.batch == id));
        let last = self.lines.len().checked_sub(1);
        let at = at.or(last.map(|last| self.table.selected().unwrap_or(0).min(last)));
        self.table.select(at);
    }

    pub(super) fn key(&mut self, key: Key) -> Asks {
        match key {
            Key::Quit => return Asks::Quit,
            Key::Help => self.help = !self.help,
            Key::Back if self.help => self.help = false,
            Key::Back => {
                if self.opened.take().is_some() {
                    self.scroll = 0;
                    return Asks::Close;
                }
            }
            Key::Enter if self.opened.is_none() && self.tab == Tab::Batches => {
                let batch = self.table.selected().and_then(|at| self.lines.get(at)).map(|line| line.batch);
                if let Some(batch) = batch {
                    (self.opened, self.scroll, self.help) = (Some(Opened { batch, text: None }), 0, false);
                    self.selected = Some(batch);
                    return Asks::Open(batch);
                }
            }
            Key::Enter => {}
            Key::NextTab => return self.go_to(self.tab.step(1)),
            Key::LastTab => return self.go_to(self.tab.step(Tab::ALL.len() - 1)),
            Key::Tab(tab) => return self.go_to(tab),
            Key::Pending => {
                self.only_pending = !self.only_pending;
                self.list();
            }
            Key::Again => return Asks::Again,
            Key::Move(by) => self.go(by),
            Key::Page(by) => self.go(by.saturating_mul(i32::from(self.page.max(2)) - 1)),
            Key::First => self.go(i32::MIN),
            Key::Last => self.go(i32::MAX),
        }
        Asks::Nothing
    }

    fn go_to(&mut self, tab: Tab) -> Asks {
        let closed = self.opened.take().is_some();
        (self.tab, self.scroll, self.help) = (tab, 0, false);
        if closed { Asks::Close } else { Asks::Nothing }
    }

    fn go(&mut self, by: i32) {
        let moved = |at: usize, last: usize| {
            let at = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(by.into()).max(0);
            usize::try_from(at).unwrap_or(0).min(last)
        };
        if self.opened.is_some() || self.tab != Tab::Batches {
            let scroll = moved(self.scroll.into(), u16::MAX.into());
            self.scroll = u16::try_from(scroll).unwrap_or(u16::MAX);
        } else if let Some(last) = self.lines.len().checked_sub(1) {
            let at = moved(self.table.selected().unwrap_or(0), last);
            self.table.select(Some(at));
            self.selected = self.lines.get(at).map(|line| line.batch);
        }
    }

    /// What is known of the batch that is looked into.
    pub(super) fn tell_batch(&mut self, batch: BatchId, text: String) {
        if let Some(opened) = self.opened.as_mut().filter(|opened| opened.batch == batch) {
            opened.text = Some(text);
        }
    }
}
