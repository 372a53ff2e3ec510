//! Takes locks whatever happened to their last holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that a panic leaves whole: each change of it is one insert, remove or assignment.
pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
