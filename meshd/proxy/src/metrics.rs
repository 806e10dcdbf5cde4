//! Counters and histograms of one thread: an index on the hot path, no atomics; summed when somebody asks.
//!
//! Labels are bounded: service names come from the tables, methods from a list, codes are three digits.

use crate::config::frames::{
    AttemptCount, BUCKETS, Duration, EndpointStat, Named, Reporter, RequestCount, Stats, TcpCount,
};
use crate::error::Flag;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Methods that have a label of their own.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "OTHER"];

/// A method's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(u8);

impl Method {
    pub const OTHER: Method = Method(METHODS.len() as u8 - 1);

    #[inline]
    pub fn of(name: &[u8]) -> Method {
        if name == b"GET" {
            return Method(0);
        }
        METHODS.iter().position(|m| m.as_bytes() == name).map_or(Method::OTHER, |i| Method(i as u8))
    }

    pub fn name(self) -> &'static str {
        METHODS.get(usize::from(self.0)).unwrap_or(&"OTHER")
    }
}

/// Why an answer was not simply the app's; several may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(u16);

impl Flags {
    pub const NONE: Flags = Flags(0);

    #[must_use]
    pub fn with(self, flag: Flag) -> Flags {
        Flags(self.0 | 1 << flag as u16)
    }

    #[must_use]
    pub fn with_all(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub fn text(self) -> String {
        let set: Vec<&str> = Flag::ALL.into_iter().filter(|f| self.0 & 1 << *f as u16 != 0).map(Flag::code).collect();
        set.join(",")
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Flags {
        Flags::NONE.with(flag)
    }
}

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    ConnectFailure,
    Reset,
    Timeout,
    Peer503,
    ErrorStatus,
}

const OUTCOMES: [&str; 6] = ["success", "connect_failure", "reset", "timeout", "peer_503", "error_status"];

/// Index of one (reporter, source, destination).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(u32);

struct Series {
    reporter: Reporter,
    source: Box<str>,
    destination: Box<str>,
    counts: Vec<(u32, u64)>,
    last: usize,
    buckets: [u64; BUCKETS.len() + 1],
    sum_ns: u64,
    opened: u64,
    closed: u64,
    attempts: [u64; OUTCOMES.len()],
}

/// Who reports, source, destination.
type Names = (Reporter, Box<str>, Box<str>);

/// All of one thread.
#[derive(Default)]
pub struct Metrics {
    series: RefCell<Vec<Series>>,
    by_name: RefCell<HashMap<Names, u32>>,
    denied: RefCell<HashMap<Box<str>, u64>>,
    rules: RefCell<HashMap<Box<str>, u64>>,
}

fn key(method: Method, code: u16, flags: Flags) -> u32 {
    u32::from(flags.0) << 16 | u32::from(method.0) << 10 | u32::from(code & 1023)
}

#[inline]
fn bucket(ns: u64) -> usize {
    const BOUNDS_NS: [u64; BUCKETS.len()] = {
        let mut b = [0; BUCKETS.len()];
        let mut i = 0;
        while i < b.len() {
            b[i] = (BUCKETS[i] * 1e9) as u64;
            i += 1;
        }
        b
    };
    BOUNDS_NS.iter().position(|b| ns <= *b).unwrap_or(BUCKETS.len())
}

impl Metrics {
    /// The handle of a pair of services; look it up once per connection, not per request.
    pub fn handle(&self, reporter: Reporter, source: &str, destination: &str) -> Handle {
        let k = (reporter, Box::from(source), Box::from(destination));
        if let Some(i) = self.by_name.borrow().get(&k) {
            return Handle(*i);
        }
        let mut all = self.series.borrow_mut();
        all.push(Series {
            reporter,
            source: k.1.clone(),
            destination: k.2.clone(),
            counts: Vec::new(),
            last: 0,
            buckets: [0; BUCKETS.len() + 1],
            sum_ns: 0,
            opened: 0,
            closed: 0,
            attempts: [0; OUTCOMES.len()],
        });
        let i = (all.len() - 1) as u32;
        self.by_name.borrow_mut().insert(k, i);
        Handle(i)
    }

    #[inline]
    fn with(&self, h: Handle, f: impl FnOnce(&mut Series)) {
        if let Some(s) = self.series.borrow_mut().get_mut(h.0 as usize) {
            f(s);
        }
    }

    /// Counts one request that was answered (or broken off).
    #[inline]
    pub fn request(&self, h: Handle, method: Method, code: u16, flags: Flags, latency_ns: u64) {
        self.with(h, |s| {
            s.buckets[bucket(latency_ns)] += 1;
            s.sum_ns += latency_ns;
            let k = key(method, code, flags);
            // nearly every request counts where the one before it did
            if let Some((_, n)) = s.counts.get_mut(s.last).filter(|(x, _)| *x == k) {
                *n += 1;
                return;
            }
            s.last = s.counts.iter().position(|(x, _)| *x == k).unwrap_or_else(|| {
                s.counts.push((k, 0));
                s.counts.len() - 1
            });
            s.counts[s.last].1 += 1;
        });
    }

    #[inline]
    pub fn attempt(&self, h: Handle, outcome: Outcome) {
        self.with(h, |s| s.attempts[outcome as usize] += 1);
    }

    pub fn opened(&self, h: Handle) {
        self.with(h, |s| s.opened += 1);
    }

    pub fn closed(&self, h: Handle) {
        self.with(h, |s| s.closed += 1);
    }

    /// Counts a refusal by the rule that said so.
    pub fn denied(&self, origin: &str) {
        add(&self.denied, origin, 1);
    }

    /// Adds hits of a rule.
    pub fn rule(&self, origin: &str, hits: u64) {
        add(&self.rules, origin, hits);
    }

    /// Adds this thread's totals to `out`.
    pub fn collect(&self, out: &mut Stats) {
        for s in self.series.borrow().iter() {
            let (source, destination) = (s.source.to_string(), s.destination.to_string());
            for (k, count) in &s.counts {
                out.requests.push(RequestCount {
                    reporter: s.reporter,
                    source: source.clone(),
                    destination: destination.clone(),
                    method: Method((k >> 10 & 63) as u8).name().into(),
                    code: (k & 1023) as u16,
                    flags: Flags((k >> 16) as u16).text(),
                    count: *count,
                });
            }
            if !s.counts.is_empty() {
                out.durations.push(Duration {
                    reporter: s.reporter,
                    source: source.clone(),
                    destination: destination.clone(),
                    sum: s.sum_ns as f64 / 1e9,
                    buckets: s.buckets.to_vec(),
                });
            }
            if s.opened > 0 {
                out.tcp.push(TcpCount {
                    reporter: s.reporter,
                    source: source.clone(),
                    destination: destination.clone(),
                    opened: s.opened,
                    closed: s.closed,
                });
            }
            for (name, count) in OUTCOMES.iter().zip(s.attempts).filter(|(_, n)| *n > 0) {
                out.attempts.push(AttemptCount {
                    source: source.clone(),
                    destination: destination.clone(),
                    outcome: (*name).into(),
                    count,
                });
            }
        }
        out.denied.extend(named(&self.denied));
        out.rules.extend(named(&self.rules));
    }
}

fn add(m: &RefCell<HashMap<Box<str>, u64>>, name: &str, n: u64) {
    let mut m = m.borrow_mut();
    match m.get_mut(name) {
        Some(c) => *c += n,
        None => {
            m.insert(name.into(), n);
        }
    }
}

fn named(m: &RefCell<HashMap<Box<str>, u64>>) -> Vec<Named> {
    m.borrow().iter().map(|(name, count)| Named { name: name.to_string(), count: *count }).collect()
}

/// Sums the threads' totals: one entry per label set, in order of the labels.
pub fn merge(parts: Vec<Stats>) -> Stats {
    let mut all = Stats::default();
    for mut p in parts {
        all.connections += p.connections;
        all.requests.append(&mut p.requests);
        all.durations.append(&mut p.durations);
        all.tcp.append(&mut p.tcp);
        all.attempts.append(&mut p.attempts);
        all.denied.append(&mut p.denied);
        all.rules.append(&mut p.rules);
        all.endpoints.append(&mut p.endpoints);
    }
    fold(&mut all.requests, order_requests, |a, b| a.count += b.count);
    fold(&mut all.durations, order_durations, add_duration);
    fold(
        &mut all.tcp,
        |a, b| (&a.reporter, &a.source, &a.destination).cmp(&(&b.reporter, &b.source, &b.destination)),
        |a, b| (a.opened, a.closed) = (a.opened + b.opened, a.closed + b.closed),
    );
    fold(
        &mut all.attempts,
        |a, b| (&a.source, &a.destination, &a.outcome).cmp(&(&b.source, &b.destination, &b.outcome)),
        |a, b| a.count += b.count,
    );
    fold(&mut all.denied, |a, b| a.name.cmp(&b.name), |a, b| a.count += b.count);
    fold(&mut all.rules, |a, b| a.name.cmp(&b.name), |a, b| a.count += b.count);
    fold(&mut all.endpoints, |a, b| a.name.cmp(&b.name), add_endpoint);
    all
}

/// Sorts the rows and adds those with equal labels into one.
fn fold<T>(rows: &mut Vec<T>, order: impl Fn(&T, &T) -> Ordering, add: impl Fn(&mut T, T)) {
    rows.sort_by(&order);
    let mut sums: Vec<T> = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        match sums.last_mut() {
            Some(last) if order(last, &row).is_eq() => add(last, row),
            _ => sums.push(row),
        }
    }
    *rows = sums;
}

fn order_requests(a: &RequestCount, b: &RequestCount) -> Ordering {
    (&a.reporter, &a.source, &a.destination, &a.method, a.code, &a.flags).cmp(&(
        &b.reporter,
        &b.source,
        &b.destination,
        &b.method,
        b.code,
        &b.flags,
    ))
}

fn order_durations(a: &Duration, b: &Duration) -> Ordering {
    (&a.reporter, &a.source, &a.destination).cmp(&(&b.reporter, &b.source, &b.destination))
}

fn add_duration(a: &mut Duration, b: Duration) {
    a.sum += b.sum;
    a.buckets.iter_mut().zip(b.buckets).for_each(|(mine, theirs)| *mine += theirs);
}

fn add_endpoint(a: &mut EndpointStat, b: EndpointStat) {
    a.ejected |= b.ejected;
    a.inflight += b.inflight;
    a.successes += b.successes;
    a.failures += b.failures;
    a.ewma_ms = a.ewma_ms.max(b.ewma_ms);
    a.last_success = a.last_success.max(b.last_success);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_labels_stay_apart() {
        let part = || {
            let m = Metrics::default();
            let h = m.handle(Reporter::Source, "web", "api");
            assert_eq!(h, m.handle(Reporter::Source, "web", "api"));
            m.request(h, Method::of(b"GET"), 200, Flags::NONE, 600_000);
            m.request(h, Method::of(b"GET"), 200, Flags::NONE, 20_000_000_000);
            m.request(
                h,
                Method::of(b"BREW"),
                503,
                Flags::NONE.with(Flag::ConnectFailure).with(Flag::RetriesExhausted),
                1,
            );
            m.attempt(h, Outcome::ConnectFailure);
            m.denied("x");
            let mut s = Stats::default();
            m.collect(&mut s);
            s
        };
        let s = merge(vec![part(), part()]);
        let got: Vec<_> = s.requests.iter().map(|r| (r.method.as_str(), r.code, r.flags.as_str(), r.count)).collect();
        assert_eq!(got, [("GET", 200, "", 4), ("OTHER", 503, "UF,URX", 2)]);
        assert_eq!(s.durations[0].buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((s.attempts[0].count, s.denied[0].count), (2, 2));
    }

    #[test]
    fn a_bucket_holds_its_bound() {
        assert_eq!(bucket(500_000), 0);
        assert_eq!(bucket(500_001), 1);
        assert_eq!(bucket(10_000_000_000), 13);
        assert_eq!(bucket(10_000_000_001), 14);
    }
}
