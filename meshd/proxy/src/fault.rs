//! Injected faults: whether this request is delayed or aborted. Decides only; the path waits and answers.

#[cfg(test)]
mod tests;

use crate::config;
use crate::route::matching::RequestView;
use crate::route::{is_source, scale};
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

impl<'t> Injected<'t> {
    /// Each fault that is injected, once.
    pub fn origins(&self) -> impl Iterator<Item = &'t str> {
        let (delay, abort) = (self.delay_ms.map(|(_, origin)| origin), self.abort.map(|(_, origin)| origin));
        delay.into_iter().chain(abort.filter(|origin| Some(*origin) != delay))
    }
}

/// The faults that apply to a request: not ended, and all conditions hold. An error in matching is no match.
pub fn applying<'t>(
    faults: &'t [Fault],
    caller: Option<ServiceId>,
    view: RequestView<'_>,
    now_unix_ms: u64,
) -> impl Iterator<Item = &'t Fault> {
    faults.iter().filter(move |fault| {
        now_unix_ms < fault.until_ms
            && is_source(&fault.sources, caller)
            && fault.header.as_ref().is_none_or(|name| view.headers.contains(name.as_bytes()))
            && fault.matcher.as_ref().is_none_or(|m| m.matches(&view).unwrap_or(false))
    })
}

/// Decides the faults of the service where the leg ends: the first delay and the first abort whose chance came up.
/// `random` is asked only for a fault that applies.
pub fn decide<'t>(
    faults: &'t [Fault],
    caller: Option<ServiceId>,
    view: &RequestView<'_>,
    now_unix_ms: u64,
    mut random: impl FnMut() -> u64,
) -> Injected<'t> {
    let mut injected = Injected::default();
    if faults.is_empty() {
        return injected;
    }
    for fault in applying(faults, caller, *view, now_unix_ms) {
        if let (Some(delay), None) = (&fault.delay, injected.delay_ms)
            && hits(delay.percent, &mut random)
        {
            injected.delay_ms = Some((length(delay, &mut random), &fault.origin));
        }
        if let (Some(abort), None) = (&fault.abort, injected.abort)
            && hits(abort.percent, &mut random)
        {
            injected.abort = Some((abort.status.map_or(Abort::Reset, Abort::Status), &fault.origin));
        }
    }
    injected
}

fn hits(per_ten_thousand: u32, random: &mut impl FnMut() -> u64) -> bool {
    per_ten_thousand >= 10_000 || scale(random(), 10_000) < u64::from(per_ten_thousand)
}

fn length(delay: &config::Delay, random: &mut impl FnMut() -> u64) -> u64 {
    if delay.max_ms <= delay.min_ms {
        return delay.min_ms;
    }
    delay.min_ms + scale(random(), delay.max_ms - delay.min_ms + 1)
}
