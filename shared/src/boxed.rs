//! Futures behind a pointer.
//!
//! The compiler generates the code of an `async fn` in each crate that awaits it, with everything it awaits in turn:
//! the SDK's client, TLS, the PostgreSQL driver. A function that answers with a [`Boxed`] future is compiled once,
//! where it stands. So what talks to the outside has one at the border of its crate.

use std::pin::Pin;

/// A future behind a pointer; see the module.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
