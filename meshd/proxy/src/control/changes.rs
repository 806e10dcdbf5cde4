//! Tables that changed step by step are those that are compiled at once, whatever the steps were.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Holder;
use super::tests::{identity, update};
use crate::balance::Balancer;
use crate::config::frames::Update;
use crate::snapshot::{Registry, Snapshot};
use crate::tables::tests::endpoint;
use crate::tables::{Leg, ServiceId, Tables};

const STATES: [&str; 5] = ["passing", "warning", "critical", "suspect", "draining"];
const SERVICES: [&str; 3] = ["api", "db", "web"];

fn one_of<T: Clone>(all: &[T], byte: u8) -> T {
    all[usize::from(byte) % all.len()].clone()
}

fn changing_endpoint(a: u8, b: u8) -> Value {
    let subsets = one_of(&[&[][..], &["v1"], &["v2"], &["v2", "v1"]], b);
    let (service, node) = (one_of(&SERVICES, a), one_of(&["a", "b"], a / 3));
    let mut e = endpoint(service, node, &(a / 6 % 4).to_string(), subsets);
    e["state"] = one_of(&STATES, b / 4).into();
    e["weight"] = (b / 20 % 3).into();
    e["address"] = format!("127.0.0.2:{}", 80 + u16::from(b / 60 % 2)).into();
    if b / 120 == 1 {
        ["inbound", "sni", "spiffe"].iter().for_each(|field| _ = e.as_object_mut().unwrap().remove(*field));
    }
    e
}

fn routes(a: u8, b: u8) -> Value {
    let (to, subset) = (one_of(&SERVICES, b), one_of(&[json!(null), json!("v1"), json!("v9")], b / 3));
    let legs = json!([{"service": to, "subset": subset}, {"service": one_of(&["api", "far"], b / 9)}]);
    let rules = json!([{"origin": format!("o{b}"), "legs": legs, "sources": one_of(&[json!([]), json!(["web", "x"])], b / 18)}]);
    let faults = json!([{"origin": "f", "sources": ["db"], "abort": {"status": 500}}]);
    json!({"kind": "routes", "name": one_of(&SERVICES, a), "rules": one_of(&[rules, json!([])], b / 36),
           "faults": one_of(&[json!([]), faults], b / 72)})
}

/// A resource of some kind; one in many is not valid.
fn resource(identities: &[Value], kind: u8, a: u8, b: u8) -> Value {
    match kind % 16 {
        0..8 => changing_endpoint(a, b),
        8 | 9 => routes(a, b),
        10 => json!({"kind": "service", "name": one_of(&SERVICES, a), "protocol": one_of(&["http", "tcp"], b),
                     "callers": {one_of(&["web", "job"], b / 2): {"connect_timeout_ms": b}}}),
        11 => {
            json!({"kind": "inbound", "name": format!("{}/a/{}", one_of(&SERVICES, a), a / 3 % 2), "app": "127.0.0.1:1",
                     "service": one_of(&SERVICES, a), "sni": format!("i-{}.mesh", b % 40), "max_connections": b})
        }
        12 => json!({"kind": "listener", "name": format!("l{}", a % 3), "address": "127.0.0.1", "port": 1 + b % 9,
                     "instance": "web/a/1", "service": one_of(&SERVICES, b)}),
        13 => json!({"kind": "trust", "name": "trust", "trust_domain": one_of(&["td", "other"], b), "roots": []}),
        14 => one_of(identities, a),
        _ => json!({"kind": "settings", "name": "settings", "node": "a", "inbound_port": b,
                    "inbound_address": one_of(&["127.0.0.1", "127.0.0.2", "nowhere"], b)}),
    }
}

/// Three bytes for each resource: puts, and deletions of what is held.
fn step(holder: &Holder, identities: &[Value], number: u64, bytes: &[u8]) -> Update {
    let held: Vec<String> = holder.holds().into_keys().collect();
    let (mut put, mut delete) = (Vec::new(), Vec::new());
    for piece in bytes.chunks_exact(3) {
        if piece[0] >= 200 && !held.is_empty() {
            delete.push(one_of(&held, piece[1]));
        } else {
            put.push(resource(identities, piece[0], piece[1], piece[2]));
        }
    }
    let full = bytes.first().is_some_and(|b| *b == 199);
    update(number, full, &put, &delete.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Everything that a request can see of the tables, by names instead of numbers.
fn shape(t: &Tables) -> BTreeMap<String, Value> {
    let name = |id: &ServiceId| t.service(*id).name.to_string();
    let leg = |l: &Leg| {
        let subset = l.subset.map(|s| t.service(l.service).subsets[s as usize].clone());
        json!([name(&l.service), subset, l.weight])
    };
    let mut all = BTreeMap::new();
    for s in t.services.iter().filter(|s| s.known) {
        let endpoints = s.endpoints.iter().map(|e| {
            let subsets: BTreeSet<&str> = e.subsets.iter().map(|i| &*s.subsets[*i as usize]).collect();
            let fields =
                format!("{} {} {:?} {} {:?} {}", e.name, e.address, e.mesh, e.weight, e.state, name(&e.service));
            json!([fields, subsets])
        });
        let sources = |ids: &[ServiceId]| ids.iter().map(name).collect::<BTreeSet<_>>();
        let rules = s.routes.rules.iter().map(|r| {
            json!([
                &*r.origin,
                sources(&r.sources),
                r.legs.iter().map(leg).collect::<Vec<_>>(),
                format!("{:?}", r.retry)
            ])
        });
        let callers: BTreeMap<String, String> = s.callers.iter().map(|(id, u)| (name(id), format!("{u:?}"))).collect();
        let shape = json!([
            endpoints.collect::<Vec<_>>(),
            rules.collect::<Vec<_>>(),
            callers,
            s.meshed,
            s.hosted,
            s.suspects,
            s.routes.faults.iter().map(|f| sources(&f.sources)).collect::<Vec<_>>(),
            format!("{:?} {:?}", s.protocol, s.upstream),
        ]);
        all.insert(format!("service {}", s.name), shape);
    }
    let listeners =
        t.listeners.iter().map(|l| format!("{} {} {} {}", l.name, l.address, name(&l.caller), name(&l.service)));
    all.insert("listeners".into(), json!(listeners.collect::<Vec<_>>()));
    let inbounds =
        t.inbounds.iter().map(|i| format!("{} {} {} {}", i.name, name(&i.service), i.sni, i.max_connections));
    all.insert("inbounds".into(), json!(inbounds.collect::<Vec<_>>()));
    all.insert("identities".into(), json!(t.identities.iter().map(|i| &*i.digest).collect::<Vec<_>>()));
    all.insert("rest".into(), json!([t.trust.as_ref().map(|t| &*t.digest), format!("{:?}", t.settings)]));
    all
}

/// Whom each leg may choose, by name: every part of the random range is tried.
fn choices(b: &Balancer, t: &Tables) -> BTreeMap<String, BTreeSet<String>> {
    let legs = t.services.iter().filter(|s| s.known).flat_map(|s| s.routes.rules.iter().flat_map(|r| &r.legs));
    let all = legs.map(|leg| {
        let picked =
            (0..256u64).filter_map(|i| b.pick(leg, None, i << 24, 0)).map(|id| t.endpoint(id).name.to_string());
        let service = t.service(leg.service);
        (format!("{} {:?}", service.name, leg.subset.map(|s| &service.subsets[s as usize])), picked.collect())
    });
    all.collect()
}

/// States live on exactly where the same instance is at the same place.
fn assert_states(old: (&Balancer, &Snapshot), new: (&Balancer, &Snapshot)) {
    for (i, service) in (0..).zip(&new.1.tables.services) {
        for (e, state) in service.endpoints.iter().zip(new.0.endpoints(ServiceId(i))) {
            let before = old.1.tables.endpoint_id(&e.name);
            let same =
                before.filter(|id| old.1.tables.endpoint(*id).is_same_place(e)).and_then(|id| old.0.endpoint(id));
            assert_eq!(same.is_some_and(|s| Rc::ptr_eq(s, state)), same.is_some(), "{}", e.name);
            assert!(same.is_some() || Rc::strong_count(state) == 1, "{} is new", e.name);
        }
    }
}

#[test]
fn changed_tables_are_those_compiled_from_scratch() {
    let identities = ["web/a/1", "web/a/2"].map(|name| {
        let mut resource = identity(&format!("spiffe://td/svc/web/n/a/i/{}", &name[6..]));
        resource["name"] = name.into();
        resource["spiffe"] = format!("spiffe://td/svc/web/n/a/i/{}", &name[6..]).into();
        resource
    });
    bolero::check!().with_type::<Vec<Vec<u8>>>().for_each(|steps| {
        let (mut holder, mut registry) = (Holder::default(), Registry::default());
        let mut snap = Arc::new(Snapshot::default());
        let mut balance = Balancer::<()>::new(&snap, None, 0);
        for (i, bytes) in (1..).zip(steps) {
            let next = step(&holder, &identities, i, bytes);
            let before = holder.holds();
            let Ok(candidate) = holder.prepare(&next) else {
                assert_eq!(holder.holds(), before, "a rejection changes nothing");
                continue;
            };
            let new = Arc::new(registry.snapshot(candidate.tables.clone(), &snap).unwrap());
            let balance_now = Balancer::new(&new, Some((&balance, &snap)), 0);
            assert_states((&balance, &snap), (&balance_now, &new));
            (balance, snap) = (balance_now, new);
            holder.commit(candidate);
        }
        let put: Vec<Value> = holder.sent();
        let candidate = Holder::default().prepare(&update(1, true, &put, &[])).unwrap();
        assert_eq!(shape(&snap.tables), shape(&candidate.tables));
        let fresh = Registry::default().snapshot(candidate.tables, &Snapshot::default()).unwrap();
        let scratch = Balancer::<()>::new(&fresh, None, 0);
        assert_eq!(choices(&balance, &snap.tables), choices(&scratch, &fresh.tables));
        assert_eq!(snap.services.len(), snap.tables.services.len());
    });
}
