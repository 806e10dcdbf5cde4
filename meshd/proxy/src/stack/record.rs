//! What is remembered of a request: counters, and a line of the access log.

use crate::access_log::Entry;
use crate::config::frames::Reporter;
use crate::metrics::{Flags, Handle, Method};
use crate::worker::{Local, Worker};

/// One request, as it ended.
pub struct Ended<'a> {
    pub reporter: Reporter,
    pub handle: Handle,
    pub source: &'a str,
    pub destination: &'a str,
    pub endpoint: &'a str,
    pub method: &'a [u8],
    pub path: &'a [u8],
    pub code: u16,
    pub flags: Flags,
    pub origin: &'a str,
    pub began_ns: u64,
    pub attempts: u32,
    pub trace: &'a [u8],
}

#[inline]
pub fn record(w: &Worker, local: &Local, e: &Ended<'_>) {
    let took = w.clock.now_ns().saturating_sub(e.began_ns);
    w.metrics.request(e.handle, Method::of(e.method), e.code, e.flags, took);
    let Some(log) = local.tables().settings.as_ref().map(|s| &s.access_log) else { return };
    if log.enabled && (log.sample >= 10_000 || w.random.next() % 10_000 < u64::from(log.sample)) {
        write(w, e, took);
    }
}

fn write(w: &Worker, e: &Ended<'_>, took_ns: u64) {
    w.log.write(&Entry {
        at_ms: w.clock.unix_ms(),
        reporter: match e.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        },
        source: e.source,
        destination: e.destination,
        endpoint: e.endpoint,
        method: e.method,
        path: e.path,
        code: e.code,
        flags: &e.flags.text(),
        origin: e.origin,
        duration_ms: took_ns as f64 / 1e6,
        attempts: e.attempts,
        trace: e.trace,
    });
}
