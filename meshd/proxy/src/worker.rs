//! What one data thread holds: its view of the snapshot, its clock, counters and pools. Nothing in here is shared.

use crate::access_log::Log;
use crate::balance::{self, Balancer};
use crate::clock::Clock;
use crate::config::State;
use crate::config::frames::{EndpointStat, Reporter, Stats};
use crate::connect::Pool;
use crate::events::Events;
use crate::metrics::{Handle, Metrics};
use crate::snapshot::Snapshot;
use crate::tables::{self, EndpointId, InboundId, ServiceId, Tables};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Between sweeps of the pools.
const SWEEP_MS: u64 = 1_000;

/// A thread's xorshift generator: choices, not secrets.
pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Cell::new(seed | 1))
    }

    #[inline]
    pub fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        // the low bits of xorshift are its weak ones
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// An endpoint as one thread sees it, with its idle streams.
pub type Endpoint = balance::Endpoint<Rc<Pool>>;

/// Handles by reporter, source and destination.
type Handles = HashMap<(Reporter, u32, u32), Handle>;

/// The tables in force on this thread, with what belongs to them.
pub struct Local {
    pub snap: Arc<Snapshot>,
    pub balance: Balancer<Rc<Pool>>,
    app_pools: Rc<Vec<Rc<Pool>>>,
    /// By service and rule.
    hits: Vec<Rc<[Cell<u64>]>>,
    handles: Rc<RefCell<Handles>>,
}

impl Local {
    #[inline]
    pub fn tables(&self) -> &Tables {
        &self.snap.tables
    }

    fn new(snap: Arc<Snapshot>, before: Option<&Local>, now_ms: u64) -> Local {
        if let Some(b) = before.filter(|b| !b.snap.keys.same_trust(&snap.keys)) {
            // their peers were verified with another trust
            b.balance.all().for_each(|e| e.with.clear());
        }
        let balance = Balancer::new(&snap, before.map(|b| (&b.balance, &*b.snap)), now_ms);
        let same = before.filter(|b| b.tables().is_numbered_as(&snap.tables));
        let hits = snap.tables.services.iter().enumerate().map(|(i, s)| {
            let old = same.and_then(|b| b.tables().services.get(i).zip(b.hits.get(i)));
            match old.filter(|(old, _)| Arc::ptr_eq(&old.routes, &s.routes)) {
                Some((_, hits)) => Rc::clone(hits),
                None => s.routes.rules.iter().map(|_| Cell::new(0)).collect(),
            }
        });
        Local {
            hits: hits.collect(),
            app_pools: app_pools(&snap.tables, before),
            handles: same.map_or_else(Rc::default, |b| Rc::clone(&b.handles)),
            balance,
            snap,
        }
    }

    /// The instance of this host that an endpoint is: called in-process, without TLS.
    #[inline]
    pub fn here(&self, id: EndpointId) -> Option<InboundId> {
        self.tables().here(id)
    }

    /// Idle streams to an endpoint.
    #[inline]
    pub fn pool(&self, id: EndpointId) -> Option<&Rc<Pool>> {
        self.balance.endpoint(id).map(|e| &e.with)
    }

    /// Idle connections to a local app.
    #[inline]
    pub fn app_pool(&self, id: InboundId) -> Option<&Rc<Pool>> {
        self.app_pools.get(id.index())
    }

    /// Counts a request that a rule decided.
    #[inline]
    pub fn hit(&self, service: ServiceId, rule: usize) {
        if let Some(c) = self.hits.get(service.index()).and_then(|s| s.get(rule)) {
            c.set(c.get() + 1);
        }
    }

    /// Adds the hits since the last call to the thread's counters.
    fn fold_hits(&self, m: &Metrics) {
        for (s, hits) in self.snap.tables.services.iter().zip(&self.hits) {
            for (rule, n) in s.routes.rules.iter().zip(hits.iter()).filter(|(_, n)| n.get() > 0) {
                m.rule(&rule.origin, n.take());
            }
        }
    }

    /// The counters of a pair of services of these tables.
    #[inline]
    pub fn handle(&self, m: &Metrics, reporter: Reporter, source: ServiceId, destination: ServiceId) -> Handle {
        let key = (reporter, source.0, destination.0);
        if let Some(h) = self.handles.borrow().get(&key) {
            return *h;
        }
        let t = self.tables();
        let h = m.handle(reporter, &t.service(source).name, &t.service(destination).name);
        self.handles.borrow_mut().insert(key, h);
        h
    }

    fn collect(&self, now_ms: u64, unix_at_start_ms: u64, out: &mut Stats) {
        let of = |i| self.balance.endpoints(ServiceId(i));
        let all = (0..).zip(&self.tables().services).flat_map(|(i, service)| service.endpoints.iter().zip(of(i)));
        // of thousands of endpoints a thread may never ask one: that needs no saying each second
        let worth =
            |e: &tables::Endpoint, s: &Endpoint| s.was_used() || s.is_ejected(now_ms) || e.state == State::Suspect;
        for (e, s) in all.filter(|(e, s)| worth(e, s)) {
            out.endpoints.push(EndpointStat {
                name: e.name.to_string(),
                ejected: s.is_ejected(now_ms),
                inflight: u64::from(s.ewma.inflight()),
                ewma_ms: s.ewma.ms(),
                successes: s.successes(),
                failures: s.failures(),
                last_success: s.last_success_ms().map_or(0.0, |at| (unix_at_start_ms + at) as f64 / 1000.0),
                proof: String::new(),
            });
        }
    }
}

/// Pools of local apps live on where the instance and its app's address are the same.
fn app_pools(t: &Tables, before: Option<&Local>) -> Rc<Vec<Rc<Pool>>> {
    let mut known: HashMap<(&str, SocketAddr), &Rc<Pool>> = HashMap::new();
    if let Some(b) = before {
        if Arc::ptr_eq(&b.tables().inbounds, &t.inbounds) {
            return Rc::clone(&b.app_pools);
        }
        known.extend(b.tables().inbounds.iter().map(|i| (&*i.name, i.app)).zip(b.app_pools.iter()));
    }
    let pools = t.inbounds.iter().map(|i| known.remove(&(&*i.name, i.app)).cloned().unwrap_or_default()).collect();
    // what was not taken over is gone from the tables: nothing of it is kept open
    known.values().for_each(|p| p.clear());
    Rc::new(pools)
}

/// One data thread.
pub struct Worker {
    pub clock: Rc<Clock>,
    pub random: Random,
    pub metrics: Metrics,
    pub events: Events,
    pub log: Log,
    local: RefCell<Rc<Local>>,
    /// Replaced tables that requests in flight still hold.
    old: RefCell<Vec<Rc<Local>>>,
    callers: RefCell<HashMap<Box<str>, u32>>,
    connections: Cell<u64>,
    draining: Cell<bool>,
    swept_ms: Cell<u64>,
}

impl Worker {
    pub fn new(clock: Rc<Clock>, random: Random, events: Events, log: Log, snap: Arc<Snapshot>) -> Rc<Worker> {
        let now = clock.coarse_ms();
        Rc::new(Worker {
            clock,
            random,
            metrics: Metrics::default(),
            events,
            log,
            local: RefCell::new(Rc::new(Local::new(snap, None, now))),
            old: RefCell::default(),
            callers: RefCell::default(),
            connections: Cell::new(0),
            draining: Cell::new(false),
            swept_ms: Cell::new(0),
        })
    }

    /// The tables that a request which begins now is decided by.
    #[inline]
    pub fn local(&self) -> Rc<Local> {
        self.local.borrow().clone()
    }

    /// Puts a new snapshot in force and has every connection look at it.
    pub fn swap(&self, snap: Arc<Snapshot>) {
        let before = self.local();
        let next = Rc::new(Local::new(snap, Some(&before), self.clock.coarse_ms()));
        *self.local.borrow_mut() = next;
        self.old.borrow_mut().push(before);
        self.clock.changed();
    }

    /// A small number for a calling instance, the same for ever on this thread.
    pub fn caller(&self, instance: &str) -> u32 {
        if let Some(n) = self.callers.borrow().get(instance) {
            return *n;
        }
        let mut all = self.callers.borrow_mut();
        let n = all.len() as u32 + 1;
        all.insert(instance.into(), n);
        n
    }

    #[inline]
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// No connection outlives its current exchange from now on.
    pub fn drain(&self) {
        self.draining.set(true);
        self.clock.changed();
    }

    pub fn connections(&self) -> u64 {
        self.connections.get()
    }

    /// Each 10 ms: deadlines, ejections of other threads, the log; each second the pools.
    pub fn tick(&self) {
        self.clock.tick();
        let now = self.clock.coarse_ms();
        let local = self.local();
        local.balance.tick(&local.snap, now);
        self.log.flush();
        self.old.borrow_mut().retain(|o| {
            let held = Rc::strong_count(o) > 1;
            if !held {
                o.fold_hits(&self.metrics);
            }
            held
        });
        if now >= self.swept_ms.get() + SWEEP_MS {
            self.swept_ms.set(now);
            let pools = local.balance.all().map(|e| &e.with).chain(local.app_pools.iter());
            pools.filter(|p| !p.is_empty()).for_each(|p| p.sweep(now));
        }
    }

    /// This thread's totals.
    pub fn collect(&self) -> Stats {
        let mut out = Stats { connections: self.connections.get(), ..Stats::default() };
        let local = self.local();
        local.fold_hits(&self.metrics);
        self.old.borrow().iter().for_each(|o| o.fold_hits(&self.metrics));
        self.metrics.collect(&mut out);
        let now = self.clock.coarse_ms();
        local.collect(now, self.clock.unix_ms() - now, &mut out);
        out
    }
}

/// Counts a connection while it lives.
pub struct Open(Rc<Worker>);

impl Open {
    pub fn new(w: &Rc<Worker>) -> Open {
        if w.connections.get() == 0 {
            // the ticker was slow while nobody was here: deadlines start from the time of now, and nobody is called who
            // was found to be out meanwhile
            w.clock.tick();
            let local = w.local();
            local.balance.tick(&local.snap, w.clock.coarse_ms());
        }
        w.connections.set(w.connections.get() + 1);
        Open(w.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn random_numbers_spread_in_both_halves() {
        let r = Random::new(7);
        let (mut low, mut high) = ([0u32; 16], [0u32; 16]);
        for _ in 0..16_000 {
            let x = r.next();
            low[(x & 15) as usize] += 1;
            high[(x >> 60) as usize] += 1;
        }
        assert!(low.iter().chain(&high).all(|n| (800..1200).contains(n)), "{low:?} {high:?}");
    }
}
