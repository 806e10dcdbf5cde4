//! What all threads share: one snapshot per update, and the few exact limits that outlive it (carried over by name).

mod service;

pub use service::SharedService;

use crate::config::State;
use crate::identity::Keys;
use crate::retry::budget::History;
use crate::tables::{Endpoint, Rejection, Service, Tables};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything in force, swapped whole. Each thread holds one `Arc` of it, requests borrow.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub tables: Arc<Tables>,
    pub keys: Arc<Keys>,
    /// By `ServiceId`.
    pub services: Vec<Arc<SharedService>>,
    /// By `InboundId`.
    pub inbounds: Vec<Arc<SharedInbound>>,
    pub version: u64,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic aborts the process, so the lock is never poisoned
    m.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The endpoints that the registry has lost, but for those of this host: they are called without a wire. One that is
/// never called, because its service has meshed instances and it is none, is not asked either.
pub fn suspects<'t>(t: &'t Tables, s: &'t Service) -> impl Iterator<Item = &'t Endpoint> {
    let all = if s.suspects > 0 { &s.endpoints[..] } else { &[] };
    let suspect = all.iter().map(|e| &**e).filter(|e| e.state == State::Suspect);
    suspect.filter(|e| (e.mesh.is_some() || !s.meshed) && t.inbound_id(&e.name).is_none())
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
    pub fn snapshot(&mut self, tables: Arc<Tables>, before: &Snapshot) -> Result<Snapshot, Rejection> {
        let keys = Keys::build(&tables, &before.tables, &before.keys)?;
        let services = self.shared(&tables, before);
        let inbounds = if Arc::ptr_eq(&tables.inbounds, &before.tables.inbounds) {
            before.inbounds.clone()
        } else {
            let mut old = std::mem::take(&mut self.inbounds);
            let kept = tables.inbounds.iter().map(|i| (i.name.clone(), old.remove(&i.name).unwrap_or_default()));
            self.inbounds = kept.collect();
            tables.inbounds.iter().filter_map(|i| self.inbounds.get(&i.name).cloned()).collect()
        };
        self.version += 1;
        Ok(Snapshot { tables, keys, services, inbounds, version: self.version })
    }

    /// What is shared of each service, carried over by name; what the tables before share with these is not looked at.
    fn shared(&mut self, tables: &Tables, before: &Snapshot) -> Vec<Arc<SharedService>> {
        let same = tables.is_numbered_as(&before.tables);
        if !same {
            self.services.retain(|name, _| tables.service_id(name).is_some());
        }
        let all = tables.services.iter().enumerate().map(|(i, s)| {
            let old = before.tables.services.get(i).zip(before.services.get(i));
            if let Some((_, shared)) = old.filter(|(old, _)| Arc::ptr_eq(old, s)) {
                return shared.clone();
            }
            let kept = match self.services.get(&*s.name) {
                Some((shared, _)) => shared.clone(),
                None => self.services.entry((&*s.name).into()).or_default().0.clone(),
            };
            kept.suspect(suspects(tables, s).map(|e| (&*e.name, e.reached_at())));
            kept
        });
        all.collect()
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

    /// Suspects, and what speaks for each: good, bad, unknown.
    pub fn suspects(&self, now_ms: u64) -> HashMap<Box<str>, &'static str> {
        self.services.values().flat_map(|(s, _)| s.suspects(now_ms)).collect()
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
}
