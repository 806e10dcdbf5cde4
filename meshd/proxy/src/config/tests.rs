//! The golden files of the contract, which the Python side reads too.

use std::path::Path;

use serde_json::{Value, json};

use super::Resource;
use super::frames::{DrainScope, ExplainInput, FromProxy, ToProxy};
use super::parse::digest;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether `whole` says all that `part` says; what it says beyond are defaults, which meshd leaves out.
fn covers(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(w), Value::Object(p)) => p.iter().all(|(k, v)| w.get(k).is_some_and(|x| covers(x, v))),
        (Value::Array(w), Value::Array(p)) => w.len() == p.len() && w.iter().zip(p).all(|(x, y)| covers(x, y)),
        _ => whole == part,
    }
}

fn resources_round_trip(list: &Value) {
    for sent in list.as_array().unwrap() {
        let parsed = Resource::parse(&sent.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let written = serde_json::to_value(&parsed).unwrap();
        assert!(covers(&written, sent), "{written} lost something of {sent}");
        assert_eq!(Resource::parse(&written.to_string()).unwrap(), parsed);
        assert_eq!(parsed.id(), format!("{}/{}", sent["kind"].as_str().unwrap(), sent["name"].as_str().unwrap()));
    }
}

#[test]
fn golden_update_is_read_as_it_was_meant() {
    let text = golden("update.json");
    let value: Value = serde_json::from_str(&text).unwrap();
    resources_round_trip(&value["put"]);
    let ToProxy::Update(update) = ToProxy::parse(text.as_bytes()).unwrap() else { panic!("an update") };
    assert!(update.full && update.update == 7 && update.delete.is_empty());
    assert_eq!(update.put.len(), value["put"].as_array().unwrap().len());
    let resources: Vec<Resource> = update.put.iter().map(|r| Resource::parse(r.get()).unwrap()).collect();
    let tables = crate::tables::Tables::build(&resources.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(tables.services.iter().map(|s| s.endpoints.len()).sum::<usize>(), 2);
}

#[test]
fn golden_frames_to_the_proxy() {
    let frames: Vec<Value> = serde_json::from_str(&golden("frames_to_proxy.json")).unwrap();
    for frame in frames {
        let parsed = ToProxy::parse(frame.to_string().as_bytes()).unwrap();
        match parsed {
            ToProxy::Update(u) => {
                assert_eq!(json!(u.update), frame["update"]);
                assert_eq!(json!(u.delete), frame["delete"]);
                resources_round_trip(&frame["put"]);
            }
            ToProxy::Drain(d) => {
                assert_eq!(
                    (d.scope, json!(d.name), json!(d.seconds)),
                    (DrainScope::Instance, frame["name"].clone(), json!(5.0))
                );
            }
            ToProxy::Scrape(id) | ToProxy::Dump(id) => assert_eq!(json!(id), frame["id"]),
        }
    }
}

#[test]
fn golden_frames_from_the_proxy() {
    let frames: Vec<Value> = serde_json::from_str(&golden("frames_from_proxy.json")).unwrap();
    for frame in frames {
        let parsed: FromProxy = serde_json::from_value(frame.clone()).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), frame, "written exactly as the contract has it");
    }
}

#[test]
fn golden_explain_input() {
    let text = golden("explain_input.json");
    let value: Value = serde_json::from_str(&text).unwrap();
    resources_round_trip(&value["resources"]);
    let input = ExplainInput::parse(text.as_bytes()).unwrap();
    assert_eq!((input.request.source.as_str(), input.request.method.as_str()), ("web", "GET"));
    assert!(covers(&serde_json::to_value(&input.request).unwrap(), &value["request"]));
}

#[test]
fn class_19_cve_2022_21679_unknown_fields_are_refused_with_their_path() {
    let parse = |value: Value| Resource::parse(&value.to_string()).map_err(|e| (e.resource, e.path));
    let routes = json!({"kind": "routes", "name": "api", "rules": [
        {"origin": "o", "legs": [{"service": "api", "mirror": 1}]}]});
    assert_eq!(parse(routes), Err(("routes/api".into(), "rules[0].legs[0].mirror".into())));
    assert_eq!(parse(json!({"kind": "gateway", "name": "x"})), Err(("gateway/x".into(), "kind".into())));
    let wrong = json!({"kind": "endpoint", "name": "a/b/c", "id": 1});
    assert_eq!(parse(wrong), Err(("endpoint/a/b/c".into(), "id".into())));
    assert!(ToProxy::parse(br#"{"type":"scrape","id":1,"x":2}"#).is_err());
    assert!(ToProxy::parse(br#"{"type":"reboot"}"#).is_err());
    assert!(ToProxy::parse(br#"{"type":"drain","scope":"proxy","seconds":-1}"#).is_err());
    assert!(ToProxy::parse(br#"{"type":"dump","id":1} x"#).is_err());
}

#[test]
fn the_digest_is_over_the_bytes_as_sent() {
    assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb924");
    assert_ne!(digest(br#"{"a":1}"#), digest(br#"{"a": 1}"#));
}

#[test]
fn a_private_key_is_not_shown_by_debug() {
    let identity =
        json!({"kind": "identity", "name": "n", "spiffe": "s", "certificate": "c", "private_key": "hidden!"});
    let parsed = Resource::parse(&identity.to_string()).unwrap();
    assert!(!format!("{parsed:?}").contains("hidden!"));
}
