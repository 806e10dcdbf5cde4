//! What the threads know together of one destination: its retry budget, who is ejected, what speaks for suspects.

use super::lock;
use crate::balance::outlier::{Ejection, Rule};
use crate::retry::budget::Budget;
use crate::suspect::{Proof, Suspects};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub struct SharedService {
    pub budget: Budget,
    judged: Mutex<Judged>,
    /// Grows when `judged` changes what may be chosen; threads look at it once per tick.
    version: AtomicU64,
}

impl std::fmt::Debug for SharedService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedService").finish_non_exhaustive()
    }
}

/// What is held against endpoints, or speaks for them.
#[derive(Default)]
pub struct Judged {
    ejected: HashMap<Box<str>, Ejected>,
    suspects: Suspects,
}

#[derive(Clone, Copy, Default)]
struct Ejected {
    state: Ejection,
    announced: bool,
}

impl Judged {
    /// No endpoint was ever ejected.
    pub fn is_clear(&self) -> bool {
        self.ejected.is_empty()
    }

    /// Until when an endpoint is out.
    pub fn ejected_until(&self, endpoint: &str) -> u64 {
        self.ejected.get(endpoint).map_or(0, |e| e.state.until_ms)
    }

    /// Until when a suspect's identity is proven.
    pub fn proven_until(&self, endpoint: &str) -> u64 {
        self.suspects.until(endpoint)
    }
}

impl SharedService {
    /// Ejects `endpoint` if the rule lets it; `total` endpoints are there. Returns for how long.
    pub fn eject(&self, endpoint: &str, rule: &Rule, total: usize, now_ms: u64) -> Option<u64> {
        let all = &mut lock(&self.judged).ejected;
        let out = all.values().filter(|e| e.state.active(now_ms)).count();
        let one = all.entry(endpoint.into()).or_default();
        let ms = one.state.eject(rule, out, total, now_ms)?;
        one.announced = true;
        self.version.fetch_add(1, Relaxed);
        Some(ms)
    }

    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Reads many endpoints under one lock.
    pub fn read<R>(&self, f: impl FnOnce(&Judged) -> R) -> R {
        f(&lock(&self.judged))
    }

    /// Endpoints whose ejection ended since the last call.
    pub(super) fn restored(&self, now_ms: u64) -> Vec<Box<str>> {
        let all = &mut lock(&self.judged).ejected;
        let over = all.iter_mut().filter(|(_, e)| e.announced && !e.state.active(now_ms));
        over.map(|(name, e)| {
            e.announced = false;
            name.clone()
        })
        .collect()
    }

    /// These endpoints are suspect in the next tables.
    pub(super) fn suspect<'n>(&self, now: impl Iterator<Item = (&'n str, SocketAddr)>) {
        lock(&self.judged).suspects.follow(now);
    }

    /// A thread had an answer of it, as itself, that is still young.
    pub fn vouch(&self, endpoint: &str, at: SocketAddr, until_ms: u64) {
        if lock(&self.judged).suspects.vouch(endpoint, at, until_ms) {
            self.version.fetch_add(1, Relaxed);
        }
    }

    /// What a handshake with a suspect has shown; true: that is news.
    pub fn judge(&self, endpoint: &str, at: SocketAddr, proof: Proof, now_ms: u64) -> bool {
        let news = lock(&self.judged).suspects.judge(endpoint, at, proof, now_ms);
        if news {
            self.version.fetch_add(1, Relaxed);
        }
        news
    }

    /// Name and state of each suspect's proof.
    pub fn suspects(&self, now_ms: u64) -> Vec<(Box<str>, &'static str)> {
        lock(&self.judged).suspects.all().map(|(name, proof)| (name.into(), proof.name(now_ms))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejection_is_known_to_all_and_its_end_is_told_once() {
        let s = SharedService::default();
        let rule =
            Rule { consecutive_failures: 1, base_ejection_ms: 100, max_ejection_percent: 5000, interval_ms: 1000 };
        assert_eq!(s.eject("a", &rule, 2, 10), Some(100));
        assert_eq!(s.eject("b", &rule, 2, 20), None, "half are out");
        assert_eq!((s.version(), s.read(|j| (j.ejected_until("a"), j.ejected_until("b")))), (1, (110, 0)));
        assert!(s.restored(50).is_empty());
        assert_eq!(s.restored(110), [Box::from("a")]);
        assert!(s.restored(120).is_empty());
    }

    #[test]
    fn threads_look_again_only_when_a_proof_changes_what_may_be_chosen() {
        let (s, at) = (SharedService::default(), SocketAddr::from(([127, 0, 0, 1], 1)));
        s.suspect([("a", at)].into_iter());
        assert!(s.judge("a", at, Proof::Good { until_ms: 100 }, 1));
        assert!(!s.judge("a", at, Proof::Good { until_ms: 200 }, 50));
        assert_eq!((s.version(), s.read(|j| j.proven_until("a"))), (1, 200));
        assert!(s.judge("a", at, Proof::Bad, 60));
        assert_eq!((s.version(), s.suspects(60)), (2, vec![(Box::from("a"), "bad")]));
    }
}
