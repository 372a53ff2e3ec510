//! Checks a log: reads all of it and compares its records with each other. The log may be written meanwhile: whatever looks
//! wrong is read again, and is a fault only if it is wrong every time. Writes nothing, so a crash changes nothing.

mod meta;
mod pieces;
mod batches;
mod files;
mod context;

use self::context::Context;
use crate::store::{Store, StoreError};
use crate::verdict::{Checked, sound};

/// Reads and checks the whole log. Damage is no error, but what is reported.
pub(crate) fn verify(store: &Store) -> Result<Vec<Checked>, StoreError> {
    let mut context = Context::new(store);
    batches::read(&mut context)?;
    files::check(&mut context)?;
    batches::check(&mut context)?;
    let before = meta::sums(store)?;
    pieces::check(&mut context)?;
    meta::check(&mut context, before)?;
    Ok(context.into_tables())
}

pub(crate) fn check(store: &Store) -> Result<(), StoreError> {
    sound(store, &verify(store)?)
}
