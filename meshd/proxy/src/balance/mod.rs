//! Which endpoint: power of two choices by peak-EWMA cost, weighted, over what takes requests and is not ejected.

pub mod ewma;
pub mod outlier;

use crate::config::{Outlier, State};
use crate::snapshot::{SharedService, Snapshot};
use crate::tables::{EndpointId, Leg, ServiceId, Tables};
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
    /// A suspect endpoint that could not be reached gets nothing more until the registry says otherwise.
    given_up: Cell<bool>,
    successes: Cell<u64>,
    failures: Cell<u64>,
    last_success_unix_ms: Cell<u64>,
}

impl Endpoint {
    pub fn successes(&self) -> u64 {
        self.successes.get()
    }

    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    pub fn last_success_unix_ms(&self) -> u64 {
        self.last_success_unix_ms.get()
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
        let mut known: HashMap<&str, (&Rc<Endpoint>, State)> = HashMap::new();
        if let Some((b, t)) = before {
            known.extend(t.endpoints.iter().zip(&b.endpoints).map(|(e, s)| (&*e.name, (s, e.state))));
        }
        let endpoints = tables
            .endpoints
            .iter()
            .map(|e| match known.get(&*e.name) {
                Some((s, state)) => {
                    if *state != e.state {
                        s.given_up.set(false);
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
        g.seen.set(shared.version());
        let mut next = u64::MAX;
        for e in &service.endpoints {
            let until = if shared.version() == 0 { 0 } else { shared.ejected_until(&tables.endpoint(*e).name) };
            if let Some(s) = self.endpoint(*e) {
                s.ejected_until_ms.set(until);
            }
            if until > now_ms {
                next = next.min(until);
            }
        }
        g.next_change_ms.set(next);
        let may = |e: EndpointId| {
            let known = tables.endpoint(e);
            // a service seen with a meshed instance is never called in plaintext; a call on this host needs no wire
            let reachable = known.mesh.is_some() || !service.meshed || tables.inbound_id(&known.name).is_some();
            let lost = |s: &Endpoint| s.given_up.get() && known.state == State::Suspect;
            let free = self.endpoint(e).is_some_and(|s| !s.is_ejected(now_ms) && !lost(s));
            known.state.takes_requests() && reachable && free
        };
        *g.all.borrow_mut() = Candidates::build(&service.endpoints, tables, may);
        for (c, s) in g.subsets.iter().zip(&service.subsets) {
            *c.borrow_mut() = Candidates::build(&s.endpoints, tables, may);
        }
    }

    /// Notes a success.
    #[inline]
    pub fn success(&self, id: EndpointId, now_unix_ms: u64) {
        let Some(e) = self.endpoint(id) else { return };
        e.successes.set(e.successes.get() + 1);
        e.last_success_unix_ms.set(now_unix_ms);
        let mut row = e.row.get();
        if !row.is_clear() {
            row.success();
            e.row.set(row);
        }
    }

    /// Notes a failure; returns for how long the endpoint is ejected, if it is now.
    pub fn failure(
        &self,
        snap: &Snapshot,
        id: EndpointId,
        outlier: &Outlier,
        could_not_connect: bool,
        now_ms: u64,
    ) -> Option<u64> {
        let e = self.endpoint(id)?;
        e.failures.set(e.failures.get() + 1);
        let known = snap.tables.endpoint(id);
        let now_ns = now_ms * 1_000_000;
        let others = snap.tables.service(known.service).endpoints.iter().filter(|o| **o != id);
        let levels = others.filter_map(|o| self.endpoint(*o)).map(|o| o.ewma.level(now_ns));
        e.ewma.fail(levels.fold(f64::INFINITY, f64::min), now_ns);
        if could_not_connect && known.state == State::Suspect {
            e.given_up.set(true);
            self.rebuild(snap, known.service, now_ms);
        }
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

fn rule(o: &Outlier) -> Rule {
    Rule {
        consecutive_failures: o.consecutive_failures,
        base_ejection_ms: o.base_ejection_ms,
        max_ejection_percent: o.max_ejection_percent,
        interval_ms: o.interval_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(n: usize) -> Vec<Rc<Endpoint>> {
        (0..n).map(|_| Rc::default()).collect()
    }

    fn candidates(n: u32, weights: &[u64]) -> Candidates {
        let mut sum = 0;
        let sums = weights.iter().map(|w| {
            sum += w;
            sum
        });
        Candidates { members: (0..n).map(EndpointId).collect(), sums: sums.collect() }
    }

    fn spread(c: &Candidates, s: &[Rc<Endpoint>], without: Option<EndpointId>) -> Vec<u32> {
        let (mut x, mut hits) = (0x9E37_79B9_7F4A_7C15u64, vec![0; s.len()]);
        for _ in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            if let Some(id) = c.pick(s, without, x, 0) {
                hits[id.index()] += 1;
            }
        }
        hits
    }

    #[test]
    fn equal_endpoints_share_and_the_dear_one_is_avoided() {
        let (c, s) = (candidates(4, &[]), states(4));
        assert!(spread(&c, &s, None).iter().all(|h| (4000..6000).contains(h)));
        s[2].ewma.begin();
        assert!(spread(&c, &s, None)[2] < 100, "the others were never asked");
    }

    #[test]
    fn weights_shape_the_choice() {
        let (c, s) = (candidates(3, &[1, 1, 8]), states(3));
        let hits = spread(&c, &s, None);
        assert!(hits[2] > 9000, "{hits:?}");
    }

    #[test]
    fn another_endpoint_is_taken_when_there_is_one() {
        let (c, s) = (candidates(3, &[]), states(3));
        assert_eq!(spread(&c, &s, Some(EndpointId(1)))[1], 0);
        let one = candidates(1, &[]);
        assert_eq!(one.pick(&s, Some(EndpointId(0)), 5, 0), Some(EndpointId(0)));
        assert_eq!(candidates(0, &[]).pick(&s, None, 5, 0), None);
    }
}
