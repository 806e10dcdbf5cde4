//! Who is chosen, and who is not.

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
    Candidates { members: (0..n).collect(), sums: sums.collect() }
}

fn spread(c: &Candidates, s: &[Rc<Endpoint>], without: Option<u32>) -> Vec<u32> {
    let (mut x, mut hits) = (0x9E37_79B9_7F4A_7C15u64, vec![0; s.len()]);
    for _ in 0..20_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if let Some(id) = c.pick(s, without, x, 0) {
            hits[id as usize] += 1;
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
    assert_eq!(spread(&c, &s, Some(1))[1], 0);
    let one = candidates(1, &[]);
    assert_eq!(one.pick(&s, Some(0), 5, 0), Some(0));
    assert_eq!(candidates(0, &[]).pick(&s, None, 5, 0), None);
}

mod suspects {
    use super::super::*;
    use crate::snapshot::Registry;
    use crate::tables::tests::{build, endpoint};
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// Two instances of `api`; the second is in `state`.
    fn snap(registry: &mut Registry, state: &str, more: &Value) -> Snapshot {
        let mut second = endpoint("api", "b", "1", &[]);
        second["state"] = state.into();
        let tables = build(&json!([endpoint("api", "a", "1", &[]), second, more])).unwrap();
        registry.snapshot(Arc::new(tables), &Snapshot::default()).unwrap()
    }

    fn trust() -> Value {
        json!({"kind": "trust", "name": "trust", "trust_domain": "td", "roots": []})
    }

    const B: &str = "api/b/1";

    fn chosen(b: &Balancer<()>, snap: &Snapshot) -> bool {
        let leg = &snap.tables.service(ServiceId(0)).routes.rules[0].legs[0];
        let name = |id| &*snap.tables.endpoint(id).name;
        (0..64u64).any(|i| b.pick(leg, None, i.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0).map(name) == Some(B))
    }

    #[test]
    fn a_suspect_is_chosen_only_while_its_identity_is_proven() {
        let mut r = Registry::default();
        let s = snap(&mut r, "suspect", &trust());
        let at = s.tables.endpoint(s.tables.endpoint_id(B).unwrap()).reached_at();
        let b = Balancer::<()>::new(&s, None, 0);
        assert!(!chosen(&b, &s), "nobody knows");
        s.services[0].judge(B, at, Proof::Good { until_ms: 10_100 }, 100);
        b.tick(&s, 100);
        assert!(chosen(&b, &s));
        s.services[0].judge(B, at, Proof::Good { until_ms: 13_100 }, 3_100);
        b.tick(&s, 13_000);
        assert!(chosen(&b, &s), "renewed without a word to the threads");
        b.tick(&s, 13_100);
        assert!(!chosen(&b, &s), "nothing was heard for ten seconds");
        s.services[0].judge(B, at, Proof::Good { until_ms: 24_000 }, 14_000);
        b.tick(&s, 14_000);
        assert!(chosen(&b, &s));
        s.services[0].judge(B, at, Proof::Bad, 15_000);
        b.tick(&s, 15_000);
        assert!(!chosen(&b, &s), "out with the first bad probe");
    }

    #[test]
    fn traffic_of_a_moment_ago_bridges_the_change_and_a_failed_connect_ends_it() {
        let mut r = Registry::default();
        let passing = snap(&mut r, "passing", &trust());
        let before = Balancer::<()>::new(&passing, None, 0);
        let id = passing.tables.endpoint_id(B).unwrap();
        before.success(id, 5_000);
        let s = snap(&mut r, "suspect", &trust());
        let b = Balancer::new(&s, Some((&before, &passing)), 9_000);
        assert!(chosen(&b, &s), "an answer of four seconds ago");
        b.tick(&s, 15_000);
        assert!(!chosen(&b, &s), "of ten seconds ago");
        let id = s.tables.endpoint_id(B).unwrap();
        s.services[0].judge(B, s.tables.endpoint(id).reached_at(), Proof::Good { until_ms: 30_000 }, 16_000);
        b.tick(&s, 16_000);
        assert!(chosen(&b, &s));
        assert!(b.unreachable(&s, id, 17_000) && !b.unreachable(&s, id, 17_001));
        assert!(!chosen(&b, &s), "at once, on this thread too");
        let again = snap(&mut r, "passing", &trust());
        assert!(chosen(&Balancer::new(&again, Some((&b, &s)), 18_000), &again), "the registry has it back");
    }

    #[test]
    fn an_instance_of_this_host_needs_no_proof() {
        let inbound = json!({"kind": "inbound", "name": B, "service": "api", "app": "127.0.0.1:1", "sni": "i-0.mesh"});
        let s = snap(&mut Registry::default(), "suspect", &inbound);
        assert!(chosen(&Balancer::<()>::new(&s, None, 0), &s));
    }
}
