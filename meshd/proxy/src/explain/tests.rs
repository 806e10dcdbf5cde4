//! What an operator is told.

use serde_json::{Value, json};

use super::explain;
use crate::config::frames::{ExplainInput, Explanation};
use crate::tables::tests::endpoint;

fn ask(resources: &[Value], request: Value) -> Explanation {
    let input = json!({"resources": resources, "request": request}).to_string();
    explain(&ExplainInput::parse(input.as_bytes()).unwrap(), 1_000).unwrap()
}

fn said(explanation: &Explanation) -> Vec<(&str, &str, &str)> {
    explanation.decisions.iter().map(|d| (d.stage.as_str(), d.verdict.as_str(), d.origin.as_str())).collect()
}

fn mesh() -> Vec<Value> {
    vec![
        endpoint("api", "b", "1", &["v1"]),
        json!({"kind": "service", "name": "api", "protocol": "http"}),
        json!({"kind": "routes", "name": "api",
               "rules": [{"origin": "router", "match": {"path_prefix": "/v1"}, "legs": [
                            {"service": "api", "subset": "v1", "weight": 9000, "origin": "s0"},
                            {"service": "api", "weight": 1000, "broken": "no subset v9", "origin": "s1"}]},
                         {"origin": "rest", "legs": [{"service": "api"}]}],
               "faults": [{"origin": "slow", "until_ms": 2_000, "delay": {"min_ms": 1, "max_ms": 2, "percent": 5000}},
                          {"origin": "over", "until_ms": 1_000, "abort": {"status": 503}}]}),
        json!({"kind": "inbound", "name": "api/b/1", "service": "api", "app": "127.0.0.1:1", "sni": "i-0.mesh",
               "protocol": "http", "permissions": {"sources": [{"name": "web", "origin": "source", "permissions": [
                   {"action": "deny", "origin": "secret", "match": {"path_exact": "/secret"}},
                   {"action": "allow", "origin": "fine"}]}]}}),
    ]
}

#[test]
fn each_stage_is_told_with_its_origin() {
    let told = ask(&mesh(), json!({"source": "web", "destination": "api", "path": "/v1/x?q=1"}));
    assert_eq!(told.verdict, "allow");
    assert_eq!(
        said(&told),
        [
            ("route", "matched", "router"),
            ("split", "leg", "s0"),
            ("fault", "delay", "slow"),
            ("balance", "available", "default#upstream"),
            ("authorize", "allow", "fine"),
            ("split", "broken", "s1"),
        ]
    );
    assert!(told.decisions[1].detail.starts_with("90% to api subset v1"), "{}", told.decisions[1].detail);
}

#[test]
fn a_denial_names_its_permission_in_any_spelling_of_the_path() {
    for path in ["/secret", "//secret", "/x/../secret", "/%73ecret"] {
        let told = ask(&mesh(), json!({"source": "web", "destination": "api", "path": path}));
        assert_eq!(
            (told.verdict.as_str(), said(&told).last().copied()),
            ("deny", Some(("authorize", "deny", "secret")))
        );
    }
    let told = ask(&mesh(), json!({"source": "job", "destination": "api"}));
    assert_eq!(said(&told).last().copied(), Some(("authorize", "deny", "default#DefaultIntention")));
}

#[test]
fn what_cannot_be_reached_is_told() {
    let told = ask(&mesh(), json!({"source": "web", "destination": "nobody"}));
    assert_eq!(told.verdict, "no_route");
    let mut drained = mesh();
    drained[0]["state"] = "draining".into();
    let told = ask(&drained, json!({"source": "web", "destination": "api"}));
    assert_eq!(told.verdict, "unavailable");
    assert!(told.decisions.iter().any(|d| d.stage == "balance" && d.detail == "0 usable (1 draining)"));
    let plain = json!({"kind": "endpoint", "name": "db/c/1", "id": "1", "service": "db", "node": "c", "address": "127.0.0.3:1"});
    let told = ask(std::slice::from_ref(&plain), json!({"source": "web", "destination": "db"}));
    assert_eq!(told.verdict, "unavailable", "plaintext is never chosen by accident");
    let allowed = json!({"kind": "service", "name": "db", "callers": {"web": {"allow_plaintext": true}}});
    let source = json!({"kind": "listener", "name": "l", "address": "127.0.0.1", "port": 1, "instance": "web/a/1", "service": "db"});
    let told = ask(&[plain, allowed, source], json!({"source": "web", "destination": "db"}));
    assert_eq!(told.verdict, "allow");
    assert_eq!(said(&told).last().copied(), Some(("authorize", "unknown", "")));
}

#[test]
fn an_abort_of_all_requests_is_a_fault() {
    let mut aborted = mesh();
    aborted[2]["faults"] = json!([{"origin": "down", "until_ms": 2_000, "abort": {"status": 503}}]);
    let told = ask(&aborted, json!({"source": "web", "destination": "api"}));
    assert_eq!(told.verdict, "fault");
}

#[test]
fn a_request_that_would_be_refused_is_an_error() {
    let input =
        json!({"resources": [], "request": {"source": "web", "destination": "api", "path": "/%2f"}}).to_string();
    let e = explain(&ExplainInput::parse(input.as_bytes()).unwrap(), 0).unwrap_err();
    assert_eq!((e.resource.as_str(), e.path.as_str()), ("request", "path"));
}

#[test]
fn the_golden_question_is_answered() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/explain_input.json");
    let input = ExplainInput::parse(&std::fs::read(path).unwrap()).unwrap();
    let told = explain(&input, 0).unwrap();
    assert_eq!(told.verdict, "allow");
    let origin = "service-intentions/api#Sources[0].Permissions[1]@5";
    assert_eq!(said(&told).last().copied(), Some(("authorize", "allow", origin)));
}
