//! All tables of the log, one after the other.

use crate::log::verify::context::Context;
use crate::log::verify::{batches, files, meta, pieces};
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

/// Reads everything in a log that may be damaged; fails if something is wrong.
pub(crate) fn check(store: &Store) -> Result<(), StoreError> {
    sound(store, &verify(store)?)
}
