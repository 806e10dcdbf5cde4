//! Which endpoint: power of two choices by peak-EWMA cost, weighted, over what takes requests and is not ejected.

mod candidates;
pub mod ewma;
pub mod outlier;
#[cfg(test)]
mod tests;

use crate::config::{Outlier, State};
use crate::snapshot::{SharedService, Snapshot};
use crate::suspect::{Proof, WINDOW_MS};
use crate::tables::{self, EndpointId, Leg, ServiceId};
use candidates::Candidates;
use ewma::Ewma;
use outlier::{Row, Rule};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What a thread keeps of an endpoint beside its state.
pub trait Keep: Default {
    /// The endpoint is gone, or somewhere else.
    fn leave(&self) {}
}

impl Keep for () {}

/// One thread's view of an endpoint, and what else the thread keeps of it (`with`); lives on when the tables swap, as
/// long as the same instance is at the same place.
#[derive(Default)]
pub struct Endpoint<T = ()> {
    pub with: T,
    pub ewma: Ewma,
    row: Cell<Row>,
    ejected_until_ms: Cell<u64>,
    successes: Cell<u64>,
    failures: Cell<u64>,
    /// Milliseconds since the proxy's start.
    last_success_ms: Cell<Option<u64>>,
}

impl<T> Endpoint<T> {
    pub fn successes(&self) -> u64 {
        self.successes.get()
    }

    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Milliseconds since the proxy's start.
    pub fn last_success_ms(&self) -> Option<u64> {
        self.last_success_ms.get()
    }

    /// Some request was sent to it, or tried to be.
    pub fn was_used(&self) -> bool {
        self.successes.get() + self.failures.get() + u64::from(self.ewma.inflight()) > 0
    }

    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.get() > now_ms
    }
}

/// One service on one thread; the next balancer takes over what did not change as it is.
struct Group<T> {
    /// As the service's endpoints.
    states: Vec<Rc<Endpoint<T>>>,
    all: RefCell<Candidates>,
    subsets: Vec<RefCell<Candidates>>,
    seen: Cell<u64>,
    next_change_ms: Cell<u64>,
}

/// One thread's balancer over one snapshot.
pub struct Balancer<T = ()> {
    /// By `ServiceId`.
    groups: Vec<Rc<Group<T>>>,
}

impl<T: Keep> Balancer<T> {
    /// Over `snap`, taking over what `before` (with its snapshot) knew.
    pub fn new(snap: &Snapshot, before: Option<(&Balancer<T>, &Snapshot)>, now_ms: u64) -> Balancer<T> {
        let mut b = Balancer { groups: Vec::with_capacity(snap.tables.services.len()) };
        for (i, service) in snap.tables.services.iter().enumerate() {
            let id = ServiceId(i as u32);
            let old = before.and_then(|(b, s)| {
                let old = s.tables.same_service(&snap.tables, id)?;
                Some((b.groups.get(old.index())?, &s.tables.services[old.index()]))
            });
            if let Some((group, was)) = old
                && Arc::ptr_eq(was, service)
            {
                b.groups.push(Rc::clone(group));
                continue;
            }
            let (group, was) = old.map_or((&[][..], &[][..]), |(g, was)| (&g.states[..], &was.endpoints[..]));
            b.groups.push(Rc::new(Group {
                states: take_over(snap, service, was, group),
                all: RefCell::default(),
                subsets: service.subsets.iter().map(|_| RefCell::default()).collect(),
                seen: Cell::new(0),
                next_change_ms: Cell::new(u64::MAX),
            }));
            b.rebuild(snap, id, now_ms);
        }
        if let Some((old, s)) = before.filter(|(_, s)| !s.tables.is_numbered_as(&snap.tables)) {
            let gone =
                s.tables.services.iter().zip(&old.groups).filter(|(s, _)| snap.tables.service_id(&s.name).is_none());
            gone.flat_map(|(_, g)| &g.states).for_each(|e| e.with.leave());
        }
        b
    }
}

impl<T> Balancer<T> {
    #[inline]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Rc<Endpoint<T>>> {
        self.groups.get(id.service.index())?.states.get(id.index as usize)
    }

    /// States of a service's endpoints, in their order.
    pub fn endpoints(&self, service: ServiceId) -> &[Rc<Endpoint<T>>] {
        self.groups.get(service.index()).map_or(&[], |g| &g.states)
    }

    /// Every state, once for each service.
    pub fn all(&self) -> impl Iterator<Item = &Rc<Endpoint<T>>> {
        self.groups.iter().flat_map(|g| &g.states)
    }

    /// The endpoint for a request on `leg`; None: none takes requests.
    #[inline]
    pub fn pick(&self, leg: &Leg, without: Option<EndpointId>, random: u64, now_ns: u64) -> Option<EndpointId> {
        let g = self.groups.get(leg.service.index())?;
        let c = match leg.subset {
            None => &g.all,
            Some(i) => g.subsets.get(i as usize)?,
        };
        let without = without.filter(|id| id.service == leg.service).map(|id| id.index);
        let index = c.borrow().pick(&g.states, without, random, now_ns)?;
        Some(EndpointId { service: leg.service, index })
    }

    /// Takes over what other threads ejected, and ends ejections; once per tick.
    pub fn tick(&self, snap: &Snapshot, now_ms: u64) {
        for (i, (g, s)) in self.groups.iter().zip(&snap.services).enumerate() {
            if g.seen.get() != s.version() || g.next_change_ms.get() <= now_ms {
                self.rebuild(snap, ServiceId(i as u32), now_ms);
            }
        }
    }

    fn rebuild(&self, snap: &Snapshot, id: ServiceId, now_ms: u64) {
        let tables = &snap.tables;
        let (service, Some(g), Some(shared)) =
            (tables.service(id), self.groups.get(id.index()), snap.services.get(id.index()))
        else {
            return;
        };
        // before the reading: what changes meanwhile is read again at the next tick
        g.seen.set(shared.version());
        let (mut all, mut next) = (g.all.borrow_mut(), u64::MAX);
        let mut subsets: Vec<_> = g.subsets.iter().map(RefCell::borrow_mut).collect();
        all.clear();
        subsets.iter_mut().for_each(|c| c.clear());
        shared.read(|judged| {
            let clear = judged.is_clear();
            for (i, one) in (0..).zip(&service.standings) {
                let name = || &*service.endpoints[i as usize].name;
                let ejected = if clear { 0 } else { judged.ejected_until(name()) };
                if !clear {
                    g.states[i as usize].ejected_until_ms.set(ejected);
                }
                let suspect = one.state == State::Suspect;
                let proven = if suspect { judged.proven_until(name()) } else { 0 };
                next = [ejected, proven].into_iter().filter(|at| *at > now_ms).fold(next, u64::min);
                if one.weight == 0 || ejected > now_ms || !one.state.takes_requests() {
                    continue;
                }
                // a service seen with a meshed instance is never called in plaintext; a call on this host needs no wire
                // and no proof of who is there
                let unsure = (!one.meshed && service.meshed) || (suspect && proven <= now_ms);
                if unsure && tables.here(EndpointId { service: id, index: i }).is_none() {
                    continue;
                }
                all.push(i, one.weight);
                if !subsets.is_empty() {
                    let of = &service.endpoints[i as usize].subsets;
                    of.iter().for_each(|n| subsets[*n as usize].push(i, one.weight));
                }
            }
        });
        all.finish();
        subsets.iter_mut().for_each(|c| c.finish());
        g.next_change_ms.set(next);
    }

    /// Notes a success.
    #[inline]
    pub fn success(&self, id: EndpointId, now_ms: u64) {
        let Some(e) = self.endpoint(id) else { return };
        e.successes.set(e.successes.get() + 1);
        e.last_success_ms.set(Some(now_ms));
        let mut row = e.row.get();
        if !row.is_clear() {
            row.success();
            e.row.set(row);
        }
    }

    /// A suspect could not be reached: a request that finds it out counts as a probe. True: that is news.
    pub fn unreachable(&self, snap: &Snapshot, id: EndpointId, now_ms: u64) -> bool {
        let known = snap.tables.endpoint(id);
        let Some(shared) = snap.services.get(known.service.index()) else { return false };
        let news = known.state == State::Suspect && shared.judge(&known.name, known.reached_at(), Proof::Bad, now_ms);
        if news {
            self.rebuild(snap, known.service, now_ms);
        }
        news
    }

    /// Notes a failure; returns for how long the endpoint is ejected, if it is now.
    pub fn failure(&self, snap: &Snapshot, id: EndpointId, outlier: &Outlier, now_ms: u64) -> Option<u64> {
        let e = self.endpoint(id)?;
        e.failures.set(e.failures.get() + 1);
        let (known, others) = (snap.tables.endpoint(id), self.endpoints(id.service));
        let now_ns = now_ms * 1_000_000;
        let levels = others.iter().filter(|o| !Rc::ptr_eq(o, e)).map(|o| o.ewma.level(now_ns));
        e.ewma.fail(levels.fold(f64::INFINITY, f64::min), now_ns);
        let rule = rule(outlier);
        let mut row = e.row.get();
        let long = row.failure(&rule, now_ms);
        e.row.set(row);
        if !long {
            return None;
        }
        let shared: &SharedService = snap.services.get(known.service.index())?;
        let ms = shared.eject(&known.name, &rule, others.len(), now_ms)?;
        e.row.set(Row::default());
        self.rebuild(snap, known.service, now_ms);
        Some(ms)
    }
}

/// The states of `service`'s endpoints, of `group` (whose endpoints were `was`) where there is one. Both are in order
/// of names; what is shared is found without a look at it.
fn take_over<T: Keep>(
    snap: &Snapshot,
    service: &tables::Service,
    was: &[Arc<tables::Endpoint>],
    group: &[Rc<Endpoint<T>>],
) -> Vec<Rc<Endpoint<T>>> {
    let mut old = was.iter().zip(group).peekable();
    let mut states = Vec::with_capacity(service.endpoints.len());
    for e in &service.endpoints {
        while let Some((_, gone)) = old.next_if(|(was, _)| !Arc::ptr_eq(was, e) && was.name < e.name) {
            gone.with.leave();
        }
        states.push(match old.next_if(|(was, _)| Arc::ptr_eq(was, e) || was.name == e.name) {
            Some((was, state)) if Arc::ptr_eq(was, e) => Rc::clone(state),
            Some((was, state)) if was.is_same_place(e) => {
                if e.state == State::Suspect && was.state != State::Suspect {
                    vouch(snap, state, e);
                }
                Rc::clone(state)
            }
            Some((_, elsewhere)) => {
                elsewhere.with.leave();
                Rc::default()
            }
            None => Rc::default(),
        });
    }
    old.for_each(|(_, gone)| gone.with.leave());
    states
}

/// An answer that came before the endpoint turned suspect speaks for it until the first probe.
fn vouch<T>(snap: &Snapshot, s: &Endpoint<T>, e: &tables::Endpoint) {
    if let (Some(shared), Some(at)) = (snap.services.get(e.service.index()), s.last_success_ms.get()) {
        shared.vouch(&e.name, e.reached_at(), at + WINDOW_MS);
    }
}

fn rule(o: &Outlier) -> Rule {
    Rule {
        consecutive_failures: o.consecutive_failures,
        base_ejection_ms: o.base_ejection_ms,
        max_ejection_percent: o.max_ejection_percent,
        interval_ms: o.interval_ms,
    }
}
