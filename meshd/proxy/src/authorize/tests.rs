//! Decisions on callers, named after what they would have caught.

use serde_json::{Value, json};

use super::{Caller, Connect, at_connect, request};
use crate::config::Protocol;
use crate::route::tests::view;
use crate::spiffe::Spiffe;
use crate::tables::tests::build;
use crate::tables::{InboundId, Tables};

fn inbound(permissions: Value) -> Tables {
    build(&json!([{"kind": "inbound", "name": "api/a/1", "service": "api", "app": "127.0.0.1:1", "sni": "i-0.mesh",
                   "permissions": permissions}]))
    .unwrap()
}

/// Decision and origin on `GET path`.
fn decide(permissions: Value, caller: Caller<'_>, path: &str, headers: &str) -> (bool, String) {
    let tables = inbound(permissions);
    let permissions = &tables.inbound(InboundId(0)).permissions;
    let verdict = request(permissions, caller, &view("GET", path, "", headers.as_bytes()));
    (verdict.allowed, verdict.origin.to_owned())
}

fn web() -> Caller<'static> {
    Caller::local("web")
}

fn layer7(permissions: Value) -> Value {
    json!({"sources": [{"name": "web", "origin": "source", "permissions": permissions}], "fallback_origin": "fallback"})
}

#[test]
fn the_first_source_that_fits_decides() {
    let rules = json!({"sources": [
        {"name": "web", "origin": "one", "action": "allow"}, {"name": "*", "origin": "all", "action": "deny"},
        {"name": "job", "origin": "late", "action": "allow"}], "fallback": "allow"});
    assert_eq!(decide(rules.clone(), web(), "/", ""), (true, "one".into()));
    assert_eq!(decide(rules.clone(), Caller::local("job"), "/", ""), (false, "all".into()));
    assert_eq!(decide(rules, Caller::Peer { service: None }, "/", ""), (false, "all".into()));
    assert_eq!(decide(json!({}), web(), "/", ""), (false, "default#DefaultIntention".into()));
}

#[test]
fn permissions_are_tried_in_order_and_then_the_fallback() {
    let rules = layer7(json!([{"action": "deny", "origin": "p0", "match": {"path_exact": "/secret"}},
                              {"action": "allow", "origin": "p1", "match": {"path_prefix": "/s"}}]));
    assert_eq!(decide(rules.clone(), web(), "/secret", ""), (false, "p0".into()));
    assert_eq!(decide(rules.clone(), web(), "/s", ""), (true, "p1".into()));
    assert_eq!(decide(rules, web(), "/", ""), (false, "fallback".into()));
}

#[test]
fn layer_4_allows_denies_or_leaves_it_to_each_request() {
    let tables = inbound(layer7(json!([{"action": "allow", "origin": "p"}])));
    let permissions = &tables.inbound(InboundId(0)).permissions;
    assert_eq!(at_connect(permissions, web(), Protocol::Http), Connect::PerRequest);
    let denied = |c: Connect<'_>| matches!(c, Connect::Decided(v) if !v.allowed);
    assert!(denied(at_connect(permissions, web(), Protocol::Tcp)), "layer-7 rules cannot be kept on bytes");
    assert!(denied(at_connect(permissions, Caller::local("job"), Protocol::Http)));
    let tables = inbound(json!({"sources": [{"name": "web", "origin": "o", "action": "allow"}]}));
    let allowed = at_connect(&tables.inbound(InboundId(0)).permissions, web(), Protocol::Tcp);
    assert!(matches!(allowed, Connect::Decided(v) if v.allowed && v.origin == "o"));
}

#[test]
fn class_11_cve_2026_73553_parameters_do_not_slip_past_a_rule() {
    let deny = layer7(json!([{"action": "deny", "origin": "d", "match": {"path_prefix": "/a/admin"}},
                             {"action": "allow", "origin": "p"}]));
    for path in ["/a/admin", "/a;x=y/admin", "/a/admin;x", "/a/;x/admin", "/a%3Bx/admin"] {
        assert_eq!(decide(deny.clone(), web(), path, "").1, "d", "{path}");
    }
    let allow = layer7(json!([{"action": "allow", "origin": "p", "match": {"path_exact": "/a;v=1"}}]));
    assert!(!decide(allow, web(), "/a;v=1", "").0, "two readings: allowed by one only");
}

#[test]
fn class_12_cve_2026_73552_a_match_error_means_deny() {
    let user = json!({"headers": [{"name": "x-user", "regex": "adm.n"}]});
    let deny = layer7(json!([{"action": "deny", "origin": "d", "match": user}, {"action": "allow", "origin": "p"}]));
    let allow = layer7(json!([{"action": "allow", "origin": "p", "match": user}]));
    let view_of = |lines: &'static [u8]| view("GET", "/", "", lines);
    for lines in [&b"x-user: adm\xefn\r\n"[..], b"x_user: admin\r\n", b"x-user: a\r\nx-user: admin\r\n"] {
        for rules in [&deny, &allow] {
            let tables = inbound(rules.clone());
            let verdict = request(&tables.inbound(InboundId(0)).permissions, web(), &view_of(lines));
            assert!(!verdict.allowed, "{lines:?}");
        }
    }
    assert!(decide(deny, web(), "/", "x-user: joe\r\n").0);
    assert!(decide(allow, web(), "/", "x-user: admin\r\n").0);
}

#[test]
fn class_17_cve_2026_39350_names_are_compared_exactly() {
    let rules = json!({"sources": [{"name": "a.b", "origin": "o", "action": "allow"}]});
    for other in ["a-b", "a.bc", "xa.b", "A.b", "a.b.", "", "*"] {
        assert!(!decide(rules.clone(), Caller::local(other), "/", "").0, "{other}");
    }
    assert!(decide(rules, Caller::local("a.b"), "/", "").0);
    for domain in ["td.evil", "evil-td", "t", "tdx"] {
        let peer = Spiffe::parse(&format!("spiffe://{domain}/svc/web/n/a/i/1")).unwrap();
        assert_eq!(Caller::of(&peer, "td"), Caller::Anonymous, "{domain}");
    }
    let ours = Spiffe::parse("spiffe://td/svc/web/n/a/i/1").unwrap();
    assert_eq!(Caller::of(&ours, "td"), web());
    assert_eq!(Caller::of(&ours, ""), Caller::Anonymous, "before the first trust nobody is known");
}

#[test]
fn class_18_istio_security_2021_004_no_negative_rule_allows_the_anonymous() {
    let actions = [
        json!({"action": "deny"}),
        json!({"permissions": [{"action": "deny", "origin": "p"}]}),
        json!({"permissions": [{"action": "allow", "origin": "p"}]}),
        json!({"permissions": [{"action": "deny", "origin": "p", "match": {"path_exact": "/other"}}]}),
        json!({"permissions": [{"action": "allow", "origin": "p",
                                "match": {"headers": [{"name": "x", "present": true, "invert": true}]}}]}),
    ];
    for action in actions {
        for name in ["*", "web"] {
            for fallback in ["allow", "deny"] {
                let mut source = json!({"name": name, "origin": "o"});
                source.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
                let rules = json!({"sources": [source], "fallback": fallback});
                assert!(!decide(rules, Caller::Anonymous, "/", "").0, "{name} {fallback} {action}");
            }
        }
    }
    let all = json!({"sources": [{"name": "*", "origin": "o", "action": "allow"}]});
    assert!(!decide(all, Caller::Anonymous, "/", "").0, "`*` means any authenticated peer");
    assert!(decide(json!({"fallback": "allow"}), Caller::Anonymous, "/", "").0);
}
