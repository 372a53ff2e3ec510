//! `state watch`: what `state dump` shows, live in a terminal. In: the answers of both services, asked every second, and
//! keys. Out: a screen. It changes nothing, and reads the database of a service that does not run once, not every second.

mod command;
mod screen;
mod keys;
mod view;
mod stages;
mod model;
mod rates;
mod ask;

pub(crate) use command::{WatchForm, watch};
