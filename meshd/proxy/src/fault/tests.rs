//! When faults apply, and how long they last.

use serde_json::{Value, json};

use super::{Abort, Injected, decide};
use crate::route::tests::view;
use crate::tables::Tables;
use crate::tables::tests::{build, endpoint};

fn tables(faults: Value) -> Tables {
    build(&json!([endpoint("api", "a", "1", &[]),
                  {"kind": "routes", "name": "api", "rules": [{"origin": "r", "legs": [{"service": "api"}]}], "faults": faults},
                  {"kind": "listener", "name": "l", "address": "127.0.0.1", "port": 1, "instance": "web/a/1", "service": "api"}]))
    .unwrap()
}

fn injected<'t>(tables: &'t Tables, caller: &str, headers: &str, now: u64, random: u64) -> Injected<'t> {
    let api = tables.service(tables.service_id("api").unwrap());
    let view = view("GET", "/x", "", headers.as_bytes());
    decide(&api.routes.faults, tables.service_id(caller), &view, now, || random)
}

#[test]
fn an_experiment_ends_itself() {
    let tables = tables(json!([{"origin": "f", "until_ms": 100, "delay": {"min_ms": 10, "max_ms": 20}}]));
    assert_eq!(injected(&tables, "web", "", 99, 0).delay_ms, Some((10, "f")));
    assert_eq!(injected(&tables, "web", "", 99, u64::MAX).delay_ms, Some((20, "f")));
    assert_eq!(injected(&tables, "web", "", 99, 0).origins().collect::<Vec<_>>(), ["f"]);
    assert_eq!(injected(&tables, "web", "", 100, 0), Injected::default());
}

#[test]
fn only_what_the_conditions_name_is_hit() {
    let tables = tables(json!([{"origin": "f", "until_ms": 100, "sources": ["web"], "header": "X-Chaos",
                                "match": {"path_prefix": "/x"}, "abort": {"status": 503}}]));
    assert_eq!(injected(&tables, "web", "x-chaos: 1\r\n", 0, 0).abort, Some((Abort::Status(503), "f")));
    assert_eq!(injected(&tables, "web", "", 0, 0).abort, None);
    assert_eq!(injected(&tables, "api", "x-chaos: 1\r\n", 0, 0).abort, None);
}

#[test]
fn percentages_are_per_ten_thousand_and_the_first_hit_counts() {
    let tables = tables(json!([
        {"origin": "half", "until_ms": 9, "abort": {"reset": true, "percent": 5000}},
        {"origin": "rest", "until_ms": 9, "abort": {"status": 500}, "delay": {"min_ms": 1, "max_ms": 1, "percent": 0}},
    ]));
    assert_eq!(injected(&tables, "web", "", 0, 0).abort, Some((Abort::Reset, "half")));
    assert_eq!(injected(&tables, "web", "", 0, u64::MAX / 2 + 1).abort, Some((Abort::Status(500), "rest")));
    assert_eq!(injected(&tables, "web", "", 0, 0).delay_ms, None);
}

#[test]
fn impossible_faults_are_refused() {
    for fault in [
        json!({"delay": {"min_ms": 2, "max_ms": 1}}),
        json!({"delay": {"min_ms": 0, "max_ms": 99_999_999}}),
        json!({"abort": {}}),
        json!({"abort": {"status": 503, "reset": true}}),
        json!({"abort": {"status": 101}}),
    ] {
        let mut full = json!({"origin": "f", "until_ms": 1});
        full.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
        let routes = json!({"kind": "routes", "name": "api", "rules": [], "faults": [full]});
        assert!(build(&json!([routes])).unwrap_err().path.starts_with("faults[0]"), "{fault}");
    }
}
