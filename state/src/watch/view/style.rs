//! Colours, and signs beside them for those who see none.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::watch::stages::Tone;

/// Whether there are colours. Without, words and signs say the same.
#[derive(Debug, Clone, Copy)]
pub(in crate::watch) struct Palette {
    pub(in crate::watch) colours: bool,
}

impl Palette {
    pub(super) fn of(self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Fine => Color::Green,
            Tone::Waits | Tone::Gone => Color::Yellow,
            Tone::Fails => Color::Red,
        };
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// What matters less.
    pub(super) fn dim(self) -> Style {
        if self.colours { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Text with the sign of its tone before it.
    pub(super) fn signed(self, tone: Tone, text: &str) -> Span<'static> {
        Span::styled(format!("{} {text}", tone.sign()), self.of(tone))
    }
}
