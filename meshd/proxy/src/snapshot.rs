//! What all threads share: one snapshot per update, and the few exact limits that outlive it (carried over by name).

use crate::balance::outlier::{Ejection, Rule};
use crate::identity::Keys;
use crate::retry::budget::{Budget, History};
use crate::tables::{Rejection, Tables};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything in force, swapped whole. Each thread holds one `Arc` of it, requests borrow.
#[derive(Debug)]
pub struct Snapshot {
    pub tables: Arc<Tables>,
    pub keys: Keys,
    /// By `ServiceId`.
    pub services: Vec<Arc<SharedService>>,
    /// By `InboundId`.
    pub inbounds: Vec<Arc<SharedInbound>>,
    pub version: u64,
}

/// A destination's budget and ejections.
#[derive(Default)]
pub struct SharedService {
    pub budget: Budget,
    ejections: Mutex<HashMap<Box<str>, Ejected>>,
    /// Grows when `ejections` change; threads look at it once per tick.
    version: AtomicU64,
}

impl std::fmt::Debug for SharedService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedService").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Default)]
struct Ejected {
    state: Ejection,
    announced: bool,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic aborts the process, so the lock is never poisoned
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedService {
    /// Ejects `endpoint` if the rule lets it; `total` endpoints are there. Returns for how long.
    pub fn eject(&self, endpoint: &str, rule: &Rule, total: usize, now_ms: u64) -> Option<u64> {
        let mut all = lock(&self.ejections);
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

    /// Until when an endpoint is out.
    pub fn ejected_until(&self, endpoint: &str) -> u64 {
        lock(&self.ejections).get(endpoint).map_or(0, |e| e.state.until_ms)
    }

    /// Endpoints whose ejection ended since the last call.
    fn restored(&self, now_ms: u64) -> Vec<Box<str>> {
        let mut all = lock(&self.ejections);
        let over = all.iter_mut().filter(|(_, e)| e.announced && !e.state.active(now_ms));
        over.map(|(name, e)| {
            e.announced = false;
            name.clone()
        })
        .collect()
    }
}

/// A local instance's connection limit.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct SharedInbound {
    open: AtomicU32,
    draining: AtomicU32,
}

impl SharedInbound {
    /// One more connection, unless `limit` (0: none) is reached.
    pub fn enter(self: &Arc<Self>, limit: u32) -> Option<Entered> {
        let before = self.open.fetch_add(1, Relaxed);
        let entered = Entered(self.clone());
        (limit == 0 || before < limit).then_some(entered)
    }

    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(1, Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed) != 0
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub struct Entered(Arc<SharedInbound>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// What the control thread carries from snapshot to snapshot.
#[derive(Default)]
pub struct Registry {
    services: HashMap<Box<str>, (Arc<SharedService>, History)>,
    inbounds: HashMap<Box<str>, Arc<SharedInbound>>,
    version: u64,
}

impl Registry {
    /// Builds the snapshot of `tables`; a rejection names the identity whose TLS cannot be set up.
    pub fn snapshot(&mut self, tables: Arc<Tables>, before: &Keys) -> Result<Snapshot, Rejection> {
        let keys = Keys::build(&tables, before)?;
        let old = std::mem::take(&mut self.services);
        let mut old: HashMap<_, _> = old.into_iter().collect();
        let mut services = Vec::with_capacity(tables.services.len());
        for s in &tables.services {
            let kept = old.remove(&s.name).unwrap_or_default();
            services.push(kept.0.clone());
            self.services.insert(s.name.clone(), kept);
        }
        let mut old = std::mem::take(&mut self.inbounds);
        let mut inbounds = Vec::with_capacity(tables.inbounds.len());
        for i in &tables.inbounds {
            let kept = old.remove(&i.name).unwrap_or_default();
            inbounds.push(kept.clone());
            self.inbounds.insert(i.name.clone(), kept);
        }
        self.version += 1;
        Ok(Snapshot { tables, keys, services, inbounds, version: self.version })
    }

    /// Once per second: budgets' windows move on. Returns (service, endpoint) whose ejections ended.
    pub fn second(&mut self, now_ms: u64) -> Vec<(Box<str>, Box<str>)> {
        let mut restored = Vec::new();
        for (name, (s, history)) in &mut self.services {
            s.budget.roll(history);
            restored.extend(s.restored(now_ms).into_iter().map(|e| (name.clone(), e)));
        }
        restored
    }

    /// Refused retries by destination.
    pub fn exhausted(&self) -> Vec<(Box<str>, u64)> {
        self.services.iter().map(|(n, (s, _))| (n.clone(), s.budget.exhausted())).filter(|(_, n)| *n > 0).collect()
    }

    pub fn inbound(&self, name: &str) -> Option<&Arc<SharedInbound>> {
        self.inbounds.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_limit_is_exact_and_given_back() {
        let i = Arc::new(SharedInbound::default());
        let a = i.enter(2).unwrap();
        let _b = i.enter(2).unwrap();
        assert!(i.enter(2).is_none());
        drop(a);
        assert!(i.enter(2).is_some());
        assert!(i.enter(0).is_some());
    }

    #[test]
    fn an_ejection_is_known_to_all_and_its_end_is_told_once() {
        let s = SharedService::default();
        let rule =
            Rule { consecutive_failures: 1, base_ejection_ms: 100, max_ejection_percent: 5000, interval_ms: 1000 };
        assert_eq!(s.eject("a", &rule, 2, 10), Some(100));
        assert_eq!(s.eject("b", &rule, 2, 20), None, "half are out");
        assert_eq!((s.version(), s.ejected_until("a"), s.ejected_until("b")), (1, 110, 0));
        assert!(s.restored(50).is_empty());
        assert_eq!(s.restored(110), [Box::from("a")]);
        assert!(s.restored(120).is_empty());
    }
}
