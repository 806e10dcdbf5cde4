//! Rules, splits, rewriting, matching.

use serde_json::{Value, json};

use super::matching::{HeaderLines, MatchError, Matcher, RequestView};
use super::{Routed, rewrite, route, route_tcp, scale};
use crate::config::Match;
use crate::tables::Tables;
use crate::tables::tests::{build, endpoint};

pub(crate) fn view<'a>(method: &'a str, path: &'a str, query: &'a str, headers: &'a [u8]) -> RequestView<'a> {
    let headers = HeaderLines::Head(headers);
    RequestView { method: method.as_bytes(), path: path.as_bytes(), query: query.as_bytes(), host: b"api", headers }
}

fn get<'a>(path: &'a str, headers: &'a [u8]) -> RequestView<'a> {
    view("GET", path, "", headers)
}

fn matcher(config: Value) -> Matcher {
    let config: Match = serde_json::from_value(config).unwrap();
    Matcher::compile(&config).unwrap()
}

fn routes(rules: Value) -> Tables {
    build(&json!([endpoint("api", "a", "1", &[]), {"kind": "routes", "name": "api", "rules": rules},
                  {"kind": "listener", "name": "l", "address": "127.0.0.1", "port": 1, "instance": "web/a/1", "service": "api"}]))
    .unwrap()
}

fn origin(tables: &Tables, caller: Option<&str>, view: &RequestView<'_>) -> Option<String> {
    let api = tables.service_id("api").unwrap();
    let caller = caller.map(|name| tables.service_id(name).unwrap());
    match route(tables, api, caller, view, || 0) {
        Routed::To(decision) => Some(decision.rule.origin.to_string()),
        _ => None,
    }
}

#[test]
fn the_first_rule_that_holds_decides() {
    let legs = json!([{"service": "api"}]);
    let tables = routes(json!([
        {"origin": "a", "legs": legs, "match": {"path_prefix": "/a"}, "sources": ["web"]},
        {"origin": "b", "legs": legs, "match": {"path_prefix": "/a"}},
        {"origin": "c", "legs": legs, "match": {"methods": ["PUT"]}},
    ]));
    assert_eq!(origin(&tables, Some("web"), &get("/ab", b"")).as_deref(), Some("a"));
    assert_eq!(origin(&tables, None, &get("/ab", b"")).as_deref(), Some("b"));
    assert_eq!(origin(&tables, Some("api"), &get("/a/b", b"")).as_deref(), Some("b"));
    assert_eq!(origin(&tables, None, &view("PUT", "/", "", b"")).as_deref(), Some("c"));
    assert_eq!(origin(&tables, None, &get("/", b"")), None);
    let web = tables.service_id("web").unwrap();
    assert!(matches!(route(&tables, web, None, &get("/", b""), || 0), Routed::UnknownService));
    let api = tables.service_id("api").unwrap();
    assert!(matches!(route_tcp(&tables, api, None, || 0), Routed::NoRule), "all rules ask for something");
}

#[test]
fn a_split_follows_its_weights() {
    let legs = json!([{"service": "api", "weight": 9000, "origin": "big"}, {"service": "web", "weight": 0, "origin": "none"},
                      {"service": "web", "weight": 1000, "origin": "small"}]);
    let tables = routes(json!([{"origin": "r", "legs": legs}]));
    let api = tables.service_id("api").unwrap();
    let mut counts = [0u32; 3];
    for i in 0..10_000u64 {
        let random = (u64::MAX / 10_000) * i + i;
        let Routed::To(decision) = route(&tables, api, None, &get("/", b""), || random) else { panic!("routed") };
        counts[decision.leg_index] += 1;
    }
    assert_eq!(counts, [9000, 0, 1000]);
    let Routed::To(last) = route(&tables, api, None, &get("/", b""), || u64::MAX) else { panic!("routed") };
    assert_eq!(last.leg_index, 2, "the greatest number falls on a leg");
    assert_eq!((scale(0, 10), scale(u64::MAX, 10)), (0, 9));
}

#[test]
fn a_single_leg_asks_for_no_random_number() {
    let tables = routes(json!([{"origin": "r", "legs": [{"service": "api"}]}]));
    let api = tables.service_id("api").unwrap();
    assert!(matches!(route(&tables, api, None, &get("/", b""), || panic!("asked")), Routed::To(_)));
}

#[test]
fn prefixes_are_rewritten_into_normal_form() {
    for (matched, to, path, expected) in [
        (json!({"path_prefix": "/admin"}), "/", "/admin/x", Some("/x")),
        (json!({"path_prefix": "/admin/"}), "/v2/", "/admin/x", Some("/v2/x")),
        (json!({"path_prefix": "/admin"}), "/v2", "/administrator", Some("/v2istrator")),
        (json!({"path_exact": "/a"}), "/b/../c", "/a", Some("/c")),
        (json!({"path_regex": "/a.*"}), "/b", "/ax", None),
        (json!({}), "/v2/", "/a/b", Some("/v2/a/b")),
    ] {
        let rule = json!([{"origin": "r", "legs": [{"service": "api"}], "match": matched, "prefix_rewrite": to}]);
        let tables = routes(rule);
        let api = tables.service(tables.service_id("api").unwrap());
        let mut out = Vec::new();
        let done = rewrite(&api.routes.rules[0], path.as_bytes(), &mut out).unwrap();
        assert_eq!(done.then_some(out.as_slice()), expected.map(str::as_bytes), "{path} to {to}");
    }
}

#[test]
fn paths_match_exactly_by_prefix_or_by_expression() {
    let holds = |config: Value, path: &str| matcher(config).matches(&get(path, b"")).unwrap();
    assert!(holds(json!({"path_exact": "/a//b"}), "/a/b"), "the rule is brought to normal form too");
    assert!(!holds(json!({"path_exact": "/a"}), "/a/"));
    assert!(holds(json!({"path_prefix": "/a/."}), "/a/.well-known"));
    assert!(!holds(json!({"path_prefix": "/a/."}), "/a/b"));
    assert!(holds(json!({"path_prefix": "/AB", "case_insensitive": true}), "/abc"));
    assert!(holds(json!({"path_regex": "/a|/b"}), "/b") && !holds(json!({"path_regex": "/a|/b"}), "/bc"));
    assert!(holds(json!({"path_regex": "/A", "case_insensitive": true}), "/a"));
}

#[test]
fn headers_match_in_each_way() {
    let lines = b"X-User: admin\r\nX-List: a\r\nx-list: b\r\nX-Empty:\r\nX-Raw: \xff\r\n";
    let holds = |config: Value| matcher(json!({"headers": [config]})).matches(&get("/", lines));
    assert_eq!(holds(json!({"name": "x-user", "exact": "admin"})), Ok(true));
    assert_eq!(holds(json!({"name": "X-User", "prefix": "ad"})), Ok(true));
    assert_eq!(holds(json!({"name": "x-user", "suffix": "in"})), Ok(true));
    assert_eq!(holds(json!({"name": "x-user", "contains": "dmi"})), Ok(true));
    assert_eq!(holds(json!({"name": "x-user", "regex": "adm"})), Ok(false), "the whole value");
    assert_eq!(holds(json!({"name": "x-list", "exact": "a,b"})), Ok(true), "lines are joined");
    assert_eq!(holds(json!({"name": "x-empty", "present": true})), Ok(true));
    assert_eq!(holds(json!({"name": "x-empty", "exact": ""})), Ok(true));
    assert_eq!(holds(json!({"name": "x-none", "present": true, "invert": true})), Ok(true));
    assert_eq!(holds(json!({"name": "x-none", "exact": "", "invert": true})), Ok(true));
    assert_eq!(holds(json!({"name": "host", "exact": "api"})), Ok(true), "the canonical host");
    assert_eq!(holds(json!({"name": "x-raw", "regex": ".*"})), Err(MatchError));
}

#[test]
fn class_13_cve_2021_39155_a_host_is_decided_on_in_one_form() {
    let rule = matcher(json!({"headers": [{"name": "host", "exact": "api.mesh"}]}));
    for host in ["api.mesh", "API.mesh", "api.mesh.", "api.mesh:80", "Api.Mesh.:80"] {
        let view = RequestView { host: host.as_bytes(), ..get("/", b"") };
        assert_eq!(rule.matches_strictly(&view), Ok(true), "{host}");
    }
    let other = RequestView { host: b"api.mesh:81", ..get("/", b"") };
    assert_eq!(rule.matches_strictly(&other), Ok(false));
}

#[test]
fn queries_match_decoded() {
    let holds = |config: Value, query: &str| matcher(json!({"query": [config]})).matches(&view("GET", "/", query, b""));
    assert_eq!(holds(json!({"name": "debug", "present": true}), "a=1&debug"), Ok(true));
    assert_eq!(holds(json!({"name": "a b", "exact": "1&2"}), "a%20b=1%262"), Ok(true));
    assert_eq!(holds(json!({"name": "a", "exact": "1"}), "a=12"), Ok(false));
    assert_eq!(holds(json!({"name": "a", "regex": "[0-9]+"}), "a=12&a=x"), Ok(true), "the first one");
    assert_eq!(holds(json!({"name": "a", "exact": "1"}), "a=%zz"), Err(MatchError));
    assert_eq!(holds(json!({"name": "a", "present": true}), ""), Ok(false));
}

#[test]
fn class_12_cve_2024_10006_what_is_ambiguous_is_an_error_for_policy() {
    let strict = |config: Value, lines: &[u8]| matcher(json!({"headers": [config]})).matches_strictly(&get("/", lines));
    let admin = || json!({"name": "x-user", "exact": "admin"});
    assert_eq!(strict(admin(), b"x-user: admin\r\n"), Ok(true));
    assert_eq!(strict(admin(), b"x-user: a\r\nx-user: b\r\n"), Ok(false), "no reading is admin");
    assert_eq!(strict(admin(), b"x-user: a\r\nx-user: admin\r\n"), Err(MatchError));
    assert_eq!(strict(admin(), b"x_user: admin\r\n"), Err(MatchError));
    assert_eq!(strict(json!({"name": "x-user", "regex": "a.*"}), b"x-user: a\xff\r\n"), Err(MatchError));
    let query = |text: &str| {
        matcher(json!({"query": [{"name": "r", "exact": "admin"}]})).matches_strictly(&view("GET", "/", text, b""))
    };
    assert_eq!(query("r=x&r=admin"), Err(MatchError));
    assert_eq!(query("%zz=1"), Err(MatchError));
    let method = matcher(json!({"methods": ["GET"]}));
    assert_eq!(method.matches_strictly(&view("get", "/", "", b"")), Err(MatchError));
    let sure = matcher(json!({"methods": ["PUT"], "headers": [{"name": "x-user", "regex": "a.*"}]}));
    assert_eq!(sure.matches_strictly(&get("/", b"x-user: \xff\r\n")), Ok(false), "what is surely false decides");
}

#[test]
fn class_25_cve_2019_15225_a_megabyte_of_path_is_linear() {
    let evil = matcher(json!({"path_regex": "/(a+)+$|(a|aa)+b|.*.*.*=.*"}));
    let path = format!("/{}", "a".repeat(1 << 20));
    // A backtracking engine would never come back; the test's own timeout is the clock.
    assert_eq!(evil.matches(&get(&path, b"")), Ok(true));
    assert_eq!(evil.matches(&get(&format!("{path}!"), b"")), Ok(false));
}
