//! Scripted faults: a queue, taken strictly in order, so that a script reads as a story (`Cut`, then `Refuse` with
//! 503 on the reconnect, then `Stall`). A fault that waits for a request or for a stream holds back those behind it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::livestream::delivery::Delivery;

/// Which server a request reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The token endpoints of IMS.
    Ims,
    /// The host that redirects.
    Front,
    /// The host that streams.
    Stream,
}

/// One fault. `after` counts hits from the moment a running stream takes the fault; when no more hits are to come
/// it happens at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next request at this door is refused with this status.
    Refuse {
        /// Where.
        door: Door,
        /// HTTP status; 503, 424, 409, 500, …
        status: u16,
        /// The body; `None` gives a JSON body with `error_description`.
        body: Option<String>,
    },
    /// The next request at the front is sent to this URL.
    RedirectTo(String),
    /// Every token is dead from the next request at the front on, so that request is answered with 401.
    ExpireToken,
    /// The connection is cut in the middle of a record. The cut record counts as not sent.
    Cut {
        /// Hits still sent whole.
        after: u64,
    },
    /// The stream ends as an HTTP body and a gzip member should.
    End {
        /// Hits still sent.
        after: u64,
    },
    /// Nothing is sent for a while, not even empty lines; then the stream goes on.
    Stall {
        /// Hits still sent.
        after: u64,
        /// How long.
        lasting: Duration,
    },
    /// Bytes in the middle of the stream that are no gzip, as a broken proxy makes them. The stream goes on behind
    /// them, but nobody can read it.
    Garbage {
        /// Hits still sent.
        after: u64,
    },
    /// What comes from now on cannot be read, line by line, for as long as the connection lasts: so it looks to a client
    /// whose inflater decodes damaged bytes. Its hits count as sent.
    Damage {
        /// Hits still sent whole.
        after: u64,
    },
    /// As the next request reaches the streaming host, this many hits have happened that nobody will ever be sent,
    /// and nothing before them is held any longer: a gap, whatever the client does.
    Lapse {
        /// Hits nobody is sent.
        hits: u64,
    },
    /// The next request at the streaming host is sent everything again from so many hits ago on, whatever it asked
    /// for and however long ago that was. What has lapsed is not brought back.
    Replay {
        /// How far back from the newest hit.
        back: u64,
    },
    /// From the next request at the streaming host on, hits reach all connections in this order.
    Deliver(Delivery),
    /// A line `not authorized`; every token is dead, and the stream carries only empty lines until the client goes.
    NotAuthorized {
        /// Hits still sent.
        after: u64,
    },
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Refuse { door: Door::Ims, .. } => "ims refuses",
            Self::Refuse { door: Door::Front, .. } => "front refuses",
            Self::Refuse { door: Door::Stream, .. } => "stream refuses",
            Self::RedirectTo(_) => "redirect",
            Self::ExpireToken => "expired token",
            Self::Cut { .. } => "cut",
            Self::End { .. } => "end",
            Self::Stall { .. } => "stall",
            Self::Garbage { .. } => "garbage",
            Self::Damage { .. } => "damage",
            Self::Lapse { .. } => "lapse",
            Self::Replay { .. } => "replay",
            Self::Deliver(_) => "delivery",
            Self::NotAuthorized { .. } => "not authorized",
        }
    }
}

/// The script. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    queue: VecDeque<Fault>,
    struck: BTreeMap<String, u64>,
}

impl Faults {
    /// Adds a fault at the end of the script.
    pub fn push(&self, fault: Fault) {
        self.with(|script| script.queue.push_back(fault));
    }

    /// Forgets every fault that has not happened.
    pub fn clear(&self) {
        self.with(|script| script.queue.clear());
    }

    /// Faults no request and no stream has taken yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.with(|script| script.queue.len())
    }

    /// How often each kind of fault struck.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.with(|script| script.struck.clone())
    }

    /// The next fault, if it is for a request at this door.
    pub(crate) fn take_at(&self, door: Door) -> Option<Fault> {
        self.take_if(|fault| match fault {
            Fault::Refuse { door: at, .. } => *at == door,
            Fault::RedirectTo(_) | Fault::ExpireToken => door == Door::Front,
            Fault::Lapse { .. } | Fault::Replay { .. } | Fault::Deliver(_) => door == Door::Stream,
            _ => false,
        })
    }

    /// The next fault, if it is for a running stream.
    pub(crate) fn take_in_stream(&self) -> Option<Fault> {
        self.take_if(|fault| {
            matches!(
                fault,
                Fault::Cut { .. }
                    | Fault::End { .. }
                    | Fault::Stall { .. }
                    | Fault::Garbage { .. }
                    | Fault::Damage { .. }
                    | Fault::NotAuthorized { .. }
            )
        })
    }

    /// Puts a fault that was taken, but never happened, back to the front.
    pub(crate) fn give_back(&self, fault: Fault) {
        self.with(|script| {
            if let Some(times) = script.struck.get_mut(fault.name()) {
                *times = times.saturating_sub(1);
            }
            script.queue.push_front(fault);
        });
    }

    fn take_if(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        self.with(|script| {
            let fault = script.queue.pop_front_if(|fault| wanted(fault))?;
            *script.struck.entry(fault.name().to_owned()).or_default() += 1;
            Some(fault)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_in_the_order_they_were_pushed() {
        let faults = Faults::default();
        faults.push(Fault::Cut { after: 3 });
        faults.push(Fault::Refuse { door: Door::Front, status: 503, body: None });
        assert_eq!(faults.take_at(Door::Front), None, "the cut comes first");
        assert_eq!(faults.take_in_stream(), Some(Fault::Cut { after: 3 }));
        assert_eq!(faults.take_in_stream(), None);
        assert_eq!(faults.take_at(Door::Stream), None);
        assert!(faults.take_at(Door::Front).is_some());
        assert_eq!(faults.pending(), 0);
    }
}
