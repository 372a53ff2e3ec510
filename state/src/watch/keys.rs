//! Keys, read by a thread of its own, since reading them blocks.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use crate::watch::model::{Key, Tab};

/// The thread looks so often whether anybody still wants keys.
const POLL: Duration = Duration::from_millis(200);

/// What the terminal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    Resized,
}

/// Keys as they come. The channel closes when the terminal is gone.
pub(super) fn read() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !sender.is_closed() {
            let input = match event::poll(POLL) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(input) = input else { return };
            if let Some(input) = meaning(&input)
                && sender.blocking_send(input).is_err()
            {
                return;
            }
        }
    })?;
    Ok(keys)
}

fn meaning(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Resized),
        Event::Key(KeyEvent { code, modifiers, kind, .. }) if *kind != KeyEventKind::Release => {
            key(*code, *modifiers).map(Input::Key)
        }
        _ => None,
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    if modifiers.contains(KeyModifiers::CONTROL) {
        return match code {
            KeyCode::Char('c' | 'd') => Some(Key::Quit),
            KeyCode::Char('f') => Some(Key::Page(1)),
            KeyCode::Char('b') => Some(Key::Page(-1)),
            _ => None,
        };
    }
    Some(match code {
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('?' | 'h') => Key::Help,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace => Key::Back,
        KeyCode::Tab | KeyCode::Right => Key::NextTab,
        KeyCode::BackTab | KeyCode::Left => Key::LastTab,
        KeyCode::Char('1') => Key::Tab(Tab::Batches),
        KeyCode::Char('2') => Key::Tab(Tab::Alerts),
        KeyCode::Char('3') => Key::Tab(Tab::Gaps),
        KeyCode::Char('4') => Key::Tab(Tab::Quarantine),
        KeyCode::Char('5') => Key::Tab(Tab::Components),
        KeyCode::Char('p') => Key::Pending,
        KeyCode::Char('r') => Key::Again,
        KeyCode::Down | KeyCode::Char('j') => Key::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Key::Move(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Key::Page(1),
        KeyCode::PageUp => Key::Page(-1),
        KeyCode::Home | KeyCode::Char('g') => Key::First,
        KeyCode::End | KeyCode::Char('G') => Key::Last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let plain = |code| meaning(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        assert_eq!(plain(KeyCode::Char('q')), Some(Input::Key(Key::Quit)));
        assert_eq!(plain(KeyCode::Char('k')), Some(Input::Key(Key::Move(-1))));
        assert_eq!(plain(KeyCode::Char('c')), None);
        let control = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(meaning(&control), Some(Input::Key(Key::Quit)));
        let shifted = Event::Key(KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT));
        assert_eq!(meaning(&shifted), Some(Input::Key(Key::Last)));
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Input::Resized));
    }
}
