//! Which endpoint: power of two choices by peak-EWMA cost, weighted, over what takes requests and is not ejected.

pub mod ewma;
pub mod outlier;
#[cfg(test)]
mod tests;

use crate::config::{Outlier, State};
use crate::snapshot::{SharedService, Snapshot};
use crate::suspect::{Proof, WINDOW_MS};
use crate::tables::{self, EndpointId, Leg, ServiceId, Tables};
use ewma::Ewma;
use outlier::{Row, Rule};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// One thread's view of an endpoint; lives on by name when the tables swap.
#[derive(Default)]
pub struct Endpoint {
    pub ewma: Ewma,
    row: Cell<Row>,
    ejected_until_ms: Cell<u64>,
    /// A suspect gets requests until then.
    proven_until_ms: Cell<u64>,
    successes: Cell<u64>,
    failures: Cell<u64>,
    /// Milliseconds since the proxy's start.
    last_success_ms: Cell<Option<u64>>,
}

impl Endpoint {
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

    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.get() > now_ms
    }
}

/// Endpoints that may be chosen now.
#[derive(Default)]
struct Candidates {
    members: Vec<EndpointId>,
    /// Running sums of the weights; empty when they are all equal.
    sums: Vec<u64>,
}

impl Candidates {
    fn build(ids: &[EndpointId], tables: &Tables, mut may: impl FnMut(EndpointId) -> bool) -> Candidates {
        let members: Vec<EndpointId> =
            ids.iter().copied().filter(|id| tables.endpoint(*id).weight > 0 && may(*id)).collect();
        let weight = |id: &EndpointId| u64::from(tables.endpoint(*id).weight);
        let mut sums = Vec::new();
        if members.windows(2).any(|w| weight(&w[0]) != weight(&w[1])) {
            let mut sum = 0;
            sums.extend(members.iter().map(|id| {
                sum += weight(id);
                sum
            }));
        }
        Candidates { members, sums }
    }

    #[inline]
    fn at(&self, random: u32) -> usize {
        let scale = |below: u64| (u64::from(random) * below) >> 32;
        match self.sums.last() {
            None => scale(self.members.len() as u64) as usize,
            Some(total) => {
                let point = scale(*total);
                self.sums.partition_point(|s| *s <= point)
            }
        }
    }

    /// Two at random, the cheaper one. `without` is passed over when there is another.
    #[inline]
    fn pick(
        &self,
        states: &[Rc<Endpoint>],
        without: Option<EndpointId>,
        random: u64,
        now_ns: u64,
    ) -> Option<EndpointId> {
        if let [only] = self.members[..] {
            return Some(only);
        }
        let n = self.members.len();
        if n == 0 {
            return None;
        }
        let (mut a, mut b) = (self.at(random as u32), self.at((random >> 32) as u32));
        if a == b {
            b = (a + 1) % n;
        }
        let is_out = |i: usize| without == Some(self.members[i]);
        if is_out(a) {
            a = (0..n).find(|i| *i != b && !is_out(*i)).unwrap_or(b);
        } else if is_out(b) {
            b = (0..n).find(|i| *i != a && !is_out(*i)).unwrap_or(a);
        }
        let cost = |i: usize| states.get(self.members[i].index()).map_or(f64::MAX, |e| e.ewma.cost(now_ns));
        Some(self.members[if cost(a) <= cost(b) { a } else { b }])
    }
}

struct Group {
    all: RefCell<Candidates>,
    subsets: Vec<RefCell<Candidates>>,
    seen: Cell<u64>,
    next_change_ms: Cell<u64>,
}

/// One thread's balancer over one snapshot.
pub struct Balancer {
    endpoints: Vec<Rc<Endpoint>>,
    groups: Vec<Group>,
}

impl Balancer {
    /// Over `snap`, taking over by name what `before` (with its tables) knew.
    pub fn new(snap: &Snapshot, before: Option<(&Balancer, &Tables)>, now_ms: u64) -> Balancer {
        let tables = &snap.tables;
        let mut known: HashMap<&str, (&Rc<Endpoint>, &tables::Endpoint)> = HashMap::new();
        if let Some((b, t)) = before {
            known.extend(t.endpoints.iter().zip(&b.endpoints).map(|(e, s)| (&*e.name, (s, e))));
        }
        let endpoints = tables
            .endpoints
            .iter()
            .map(|e| match known.get(&*e.name) {
                Some((s, was)) => {
                    if e.state == State::Suspect && was.state != State::Suspect {
                        vouch(snap, s, was, e.service);
                    }
                    Rc::clone(s)
                }
                None => Rc::default(),
            })
            .collect();
        let groups = tables
            .services
            .iter()
            .map(|s| Group {
                all: RefCell::default(),
                subsets: s.subsets.iter().map(|_| RefCell::default()).collect(),
                seen: Cell::new(0),
                next_change_ms: Cell::new(u64::MAX),
            })
            .collect();
        let b = Balancer { endpoints, groups };
        for i in 0..tables.services.len() {
            b.rebuild(snap, ServiceId(i as u32), now_ms);
        }
        b
    }

    #[inline]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Rc<Endpoint>> {
        self.endpoints.get(id.index())
    }

    pub fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint for a request on `leg`; None: none takes requests.
    #[inline]
    pub fn pick(&self, leg: &Leg, without: Option<EndpointId>, random: u64, now_ns: u64) -> Option<EndpointId> {
        let g = self.groups.get(leg.service.index())?;
        let c = match leg.subset {
            None => &g.all,
            Some(i) => g.subsets.get(i as usize)?,
        };
        c.borrow().pick(&self.endpoints, without, random, now_ns)
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
        let mut next = u64::MAX;
        shared.read(|judged| {
            for e in &service.endpoints {
                let (Some(s), known) = (self.endpoint(*e), tables.endpoint(*e)) else { continue };
                let suspect = known.state == State::Suspect;
                let ejected = judged.ejected_until(&known.name);
                let proven = if suspect { judged.proven_until(&known.name) } else { 0 };
                s.ejected_until_ms.set(ejected);
                s.proven_until_ms.set(proven);
                next = [ejected, proven].into_iter().filter(|at| *at > now_ms).fold(next, u64::min);
            }
        });
        g.next_change_ms.set(next);
        let may = |e: EndpointId| {
            let known = tables.endpoint(e);
            let here = tables.inbound_id(&known.name).is_some();
            // a service seen with a meshed instance is never called in plaintext; a call on this host needs no wire
            let reachable = known.mesh.is_some() || !service.meshed || here;
            // nor does it need a proof of who is there
            let sure = |s: &Endpoint| known.state != State::Suspect || here || s.proven_until_ms.get() > now_ms;
            let free = self.endpoint(e).is_some_and(|s| !s.is_ejected(now_ms) && sure(s));
            known.state.takes_requests() && reachable && free
        };
        *g.all.borrow_mut() = Candidates::build(&service.endpoints, tables, may);
        for (c, s) in g.subsets.iter().zip(&service.subsets) {
            *c.borrow_mut() = Candidates::build(&s.endpoints, tables, may);
        }
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
        let known = snap.tables.endpoint(id);
        let now_ns = now_ms * 1_000_000;
        let others = snap.tables.service(known.service).endpoints.iter().filter(|o| **o != id);
        let levels = others.filter_map(|o| self.endpoint(*o)).map(|o| o.ewma.level(now_ns));
        e.ewma.fail(levels.fold(f64::INFINITY, f64::min), now_ns);
        let rule = rule(outlier);
        let mut row = e.row.get();
        let long = row.failure(&rule, now_ms);
        e.row.set(row);
        if !long {
            return None;
        }
        let shared: &SharedService = snap.services.get(known.service.index())?;
        let ms = shared.eject(&known.name, &rule, snap.tables.service(known.service).endpoints.len(), now_ms)?;
        e.row.set(Row::default());
        self.rebuild(snap, known.service, now_ms);
        Some(ms)
    }
}

/// An answer that came before the endpoint turned suspect speaks for it until the first probe.
fn vouch(snap: &Snapshot, s: &Endpoint, was: &tables::Endpoint, service: ServiceId) {
    if let (Some(shared), Some(at)) = (snap.services.get(service.index()), s.last_success_ms.get()) {
        shared.vouch(&was.name, was.reached_at(), at + WINDOW_MS);
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
