//! What the service manager is told, by systemd's protocol (`sd_notify`): the start goes on, the service is ready, what it
//! does, that its loops still go round, and that it stops. Without a manager, or when it does not take a message, nothing
//! happens: no service ends for that.
//!
//! Nothing here is a bare timer. A start is prolonged only while it computes, reads, or waits for a neighbour whose answer
//! has a time limit of its own. `WATCHDOG=1` is sent only while each [`Loop`] is polled, and by a task of the runtime, so a
//! runtime that stands still sends none.

mod manager;

mod watchdog;

mod start;

mod sender;

pub use manager::ServiceManager;
pub use start::Start;
pub use watchdog::Loop;
