//! Draws the model. Fits any size: what has no room is left out, the least needed first.

mod layout;
mod body;
mod head;
mod style;
#[cfg(test)]
mod tests;

pub(super) use layout::draw;
pub(super) use style::Palette;
