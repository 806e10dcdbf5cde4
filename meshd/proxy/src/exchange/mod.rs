//! Carrying: a request and its response, or bytes both ways, with back-pressure, deadlines and cancellation.

mod body;
pub mod http;
pub mod tcp;

pub use body::Body;

use crate::clock::{Clock, Deadline};
use crate::stream::Session;

/// No progress in a body for this long ends the exchange.
pub const BODY_IDLE_MS: u64 = 30_000;
/// Bytes moved at once.
pub const PIECE: usize = 64 * 1024;

/// Why an exchange cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client went away or broke the protocol.
    Gone,
    /// Its time is over.
    Deadline,
    /// What it was decided on changed, and it would be refused now.
    Cut,
}

/// Asked whether an exchange may go on under the tables of now; given the upstream's TLS session.
pub type Still<'a> = &'a dyn Fn(Option<&Session>) -> bool;

/// What ends an exchange from outside: the deadline, a change of the tables.
pub struct Guard<'a> {
    clock: &'a Clock,
    seen: u64,
    still: Still<'a>,
    /// Of the whole request, on the coarse clock; `u64::MAX`: none.
    total_at: u64,
}

impl<'a> Guard<'a> {
    /// `decided`: the generation that it was decided on. `timeout_ms` 0: none.
    pub fn new(clock: &'a Clock, decided: u64, still: Still<'a>, timeout_ms: u64) -> Guard<'a> {
        let total_at = if timeout_ms == 0 { u64::MAX } else { clock.coarse_ms() + timeout_ms };
        Guard { clock, seen: decided, still, total_at }
    }

    /// Begins a phase that may last `ms` (0: as long as the whole).
    #[inline]
    pub fn phase(&self, deadline: &Deadline, ms: u64) {
        let at = if ms == 0 { u64::MAX } else { self.clock.coarse_ms() + ms };
        deadline.arm_at(at.min(self.total_at));
    }

    /// The whole request's time is over (and not only a phase's).
    pub fn is_over(&self) -> bool {
        self.clock.coarse_ms() >= self.total_at
    }

    #[inline]
    pub fn check(&mut self, deadline: &Deadline, upstream: Option<&Session>) -> Option<Stop> {
        if deadline.fired() {
            return Some(Stop::Deadline);
        }
        let now = self.clock.generation();
        if now != self.seen {
            self.seen = now;
            if !(self.still)(upstream) {
                return Some(Stop::Cut);
            }
        }
        None
    }
}
