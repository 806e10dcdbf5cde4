//! Tables from JSON, and what they refuse.

use serde_json::{Value, json};

use super::{Rejection, ServiceId, Tables};
use crate::config::Resource;

/// Tables from an array of resources, as meshd sends them.
pub(crate) fn build(resources: &Value) -> Result<Tables, Rejection> {
    let list = resources.as_array().expect("an array");
    let parsed: Vec<Resource> = list.iter().map(|r| Resource::parse(&r.to_string())).collect::<Result<_, _>>()?;
    Tables::build(&parsed.iter().collect::<Vec<_>>())
}

/// A meshed endpoint.
pub(crate) fn endpoint(service: &str, node: &str, id: &str, subsets: &[&str]) -> Value {
    json!({"kind": "endpoint", "name": format!("{service}/{node}/{id}"), "id": id, "service": service, "node": node,
           "address": "127.0.0.2:80", "inbound": "127.0.0.2:15443", "sni": "i-00.mesh",
           "spiffe": format!("spiffe://td/svc/{service}/n/{node}/i/{id}"), "subsets": subsets})
}

fn rejected(resource: Value) -> (String, String) {
    let e = build(&json!([resource])).expect_err("rejected");
    (e.resource, e.path)
}

#[test]
fn names_are_interned_and_found() {
    let tables = build(&json!([
        endpoint("api", "b", "1", &["v1"]),
        endpoint("api", "a", "1", &["v2", "v2"]),
        {"kind": "listener", "name": "web/a/w:api", "address": "127.0.0.1", "port": 1, "instance": "web/a/w", "service": "api"},
        {"kind": "service", "name": "api", "protocol": "http", "callers": {"web": {"connect_timeout_ms": 7}}},
    ]))
    .unwrap();
    let api = tables.service_id("api").unwrap();
    let service = tables.service(api);
    let names: Vec<&str> = service.endpoints.iter().map(|e| e.name.as_ref()).collect();
    assert_eq!(names, ["api/a/1", "api/b/1"], "by name, whatever the order of arrival");
    let subsets: Vec<(&str, usize)> = (0..)
        .zip(&service.subsets)
        .map(|(i, name)| (&**name, service.endpoints.iter().filter(|e| e.is_in(Some(i))).count()))
        .collect();
    assert_eq!(subsets, [("v2", 1), ("v1", 1)]);
    assert!(service.known && service.meshed);
    let web = tables.service_id("web").unwrap();
    assert!(!tables.service(web).known, "only named");
    assert_eq!(service.upstream_for(Some(web)).connect_timeout_ms, 7);
    assert_eq!(service.upstream_for(None).connect_timeout_ms, 1_000);
    assert_eq!(tables.listeners[0].caller, web);
    assert_eq!(tables.endpoint_id("api/b/1").map(|e| tables.endpoint(e).service), Some(api));
    assert!(tables.service_id("nobody").is_none());
}

#[test]
fn a_known_service_without_routes_has_the_default_rule() {
    let tables = build(&json!([endpoint("api", "a", "1", &[])])).unwrap();
    let rule = &tables.service(ServiceId(0)).routes.rules[0];
    assert_eq!((rule.timeout_ms, rule.retry.attempts, rule.retry.default), (15_000, 2, true));
    assert!(rule.retry.on.connect_failure && rule.retry.on.reset && rule.retry.on.peer_503);
    assert_eq!(tables.leg_endpoints(&rule.legs[0]).count(), 1);
}

#[test]
fn a_leg_to_a_subset_that_nobody_carries_has_no_endpoints() {
    let legs = json!([{"service": "api", "subset": "v9"}]);
    let routes = json!({"kind": "routes", "name": "api", "rules": [{"origin": "o", "legs": legs}]});
    let tables = build(&json!([routes, endpoint("api", "a", "1", &["v1"])])).unwrap();
    let api = tables.service(tables.service_id("api").unwrap());
    assert_eq!(tables.leg_endpoints(&api.routes.rules[0].legs[0]).count(), 0);
}

#[test]
fn rejections_name_resource_and_path() {
    let rule = |extra: Value| {
        let mut rule = json!({"origin": "o", "legs": [{"service": "api"}]});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"kind": "routes", "name": "api", "rules": [{"origin": "o", "legs": [{"service": "api"}]}, rule]})
    };
    let place = |path: &str| ("routes/api".to_owned(), path.to_owned());
    assert_eq!(rejected(rule(json!({"match": {"path_regex": "("}}))), place("rules[1].match.path_regex"));
    assert_eq!(rejected(rule(json!({"match": {"path_regex": "a)|(b"}}))), place("rules[1].match.path_regex"));
    assert_eq!(rejected(rule(json!({"match": {"path_exact": "/%2f"}}))), place("rules[1].match.path_exact"));
    assert_eq!(rejected(rule(json!({"match": {"path_prefix": "x"}}))), place("rules[1].match.path_prefix"));
    assert_eq!(rejected(rule(json!({"match": {"path_prefix": "/", "path_exact": "/"}}))), place("rules[1].match"));
    assert_eq!(rejected(rule(json!({"match": {"headers": [{"name": "a"}]}}))), place("rules[1].match.headers[0]"));
    let two = json!({"match": {"headers": [{"name": "a", "exact": "", "present": true}]}});
    assert_eq!(rejected(rule(two)), place("rules[1].match.headers[0]"));
    assert_eq!(rejected(rule(json!({"match": {"query": [{"name": "a"}]}}))), place("rules[1].match.query[0]"));
    assert_eq!(rejected(rule(json!({"legs": []}))), place("rules[1].legs"));
    assert_eq!(rejected(rule(json!({"retry": {"on": ["often"]}}))), place("rules[1].retry.on[0]"));
    let edit = json!({"request_headers": {"set": [["host", "x"]]}});
    assert_eq!(rejected(rule(edit)), place("rules[1].request_headers.set[0]"));
    assert_eq!(rejected(rule(json!({"surprise": 1}))).1, "rules[1].surprise");
    assert_eq!(rejected(json!({"kind": "routes", "name": "api"})), place(""));
}

#[test]
fn class_25_cve_2019_15225_regular_expressions_are_bounded() {
    let big = json!({"kind": "routes", "name": "api", "rules": [
        {"origin": "o", "legs": [{"service": "api"}], "match": {"path_regex": "(a{1000}){1000}"}}]});
    assert_eq!(rejected(big).1, "rules[0].match.path_regex");
}

#[test]
fn endpoints_cannot_stand_for_another_instance() {
    let with = |field: &str, value: &str| {
        let mut e = endpoint("api", "a", "1", &[]);
        e[field] = value.into();
        rejected(e).1
    };
    assert_eq!(with("spiffe", "spiffe://td/svc/web/n/a/i/1"), "spiffe");
    assert_eq!(with("spiffe", "spiffe://td/svc/api/n/b/i/1"), "spiffe");
    assert_eq!(with("spiffe", ""), "spiffe");
    assert_eq!(with("sni", ""), "sni");
    assert_eq!(with("inbound", "b:1"), "inbound");
    assert_eq!(with("address", "localhost"), "address");
    assert_eq!(with("node", "b"), "name");
}

#[test]
fn two_resources_cannot_share_a_port_or_a_server_name() {
    let listener = |name: &str| json!({"kind": "listener", "name": name, "address": "127.0.0.1", "port": 9, "instance": "w/a/1", "service": "x"});
    let e = build(&json!([listener("b"), listener("a")])).unwrap_err();
    assert_eq!((e.resource.as_str(), e.path.as_str()), ("listener/b", "port"));
    let inbound = |id: &str| json!({"kind": "inbound", "name": format!("x/a/{id}"), "service": "x", "app": "127.0.0.1:1", "sni": "i-0.mesh"});
    let e = build(&json!([inbound("1"), inbound("2")])).unwrap_err();
    assert_eq!((e.resource.as_str(), e.path.as_str()), ("inbound/x/a/2", "sni"));
}

#[test]
fn a_source_that_says_nothing_is_refused() {
    let inbound = |source: Value| {
        json!({"kind": "inbound", "name": "x/a/1", "service": "x", "app": "127.0.0.1:1", "sni": "i-0.mesh",
               "permissions": {"sources": [source], "fallback": "allow"}})
    };
    let place = ("inbound/x/a/1".to_owned(), "permissions.sources[0]".to_owned());
    assert_eq!(rejected(inbound(json!({"name": "w", "origin": "o"}))), place);
    let both =
        json!({"name": "w", "origin": "o", "action": "allow", "permissions": [{"action": "deny", "origin": "o"}]});
    assert_eq!(rejected(inbound(both)), place);
}

#[test]
fn class_35_linkerd_3880_root_formatting_and_revocations() {
    let der = crate::spiffe::tests::root();
    let pem = |newline: &str| {
        let body: Vec<String> = der.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into()).collect();
        format!("-----BEGIN CERTIFICATE-----{newline}{}{newline}-----END CERTIFICATE-----{newline}", body.join(newline))
    };
    let revoked = json!([{"spiffe": "spiffe://td/node/a", "before_ms": 5}, {"spiffe": "spiffe://td/node/b"},
                         {"serial": "00AB"}]);
    let roots = json!([pem("\n"), format!("# a comment\n\n{}\n\n", pem("\r\n")), pem("\n") + &pem("\n")]);
    let tables = build(&json!([{"kind": "trust", "name": "trust", "trust_domain": "td", "roots": roots,
                                "revoked": revoked}]))
    .unwrap();
    let trust = tables.trust.as_ref().unwrap();
    assert_eq!(trust.roots.len(), 1, "one root, however it is written");
    assert!(trust.is_revoked("spiffe://td/node/a", "1", 4) && !trust.is_revoked("spiffe://td/node/a", "1", 5));
    assert!(trust.is_revoked("spiffe://td/node/b", "1", u64::MAX) && trust.is_revoked("spiffe://td/node/c", "ab", 0));
    assert!(!trust.is_revoked("spiffe://td/node/c", "abc", 0));
    let bad =
        |roots: Value| rejected(json!({"kind": "trust", "name": "trust", "trust_domain": "td", "roots": roots})).1;
    assert_eq!(bad(json!(["PEM"])), "roots[0]");
    assert_eq!(bad(json!(["-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])), "roots[0]");
}
