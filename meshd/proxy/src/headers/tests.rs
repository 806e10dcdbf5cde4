//! Hygiene, edits, trace context and built heads.

use super::build::{Body, ForwardRequest, ForwardResponse};
use super::edit::Edits;
use super::trace::TraceParent;
use super::{build, names};
use crate::config::HeaderEdit;
use crate::http1::head::request;
use crate::http1::response::response;
use crate::http1::{Sender, fields};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn forwarded(lines: &str, sender: Sender, how: &ForwardRequest<'_>) -> String {
    let text = format!("GET /x?q HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let head = request(text.as_bytes(), sender).unwrap().unwrap();
    let mut out = Vec::new();
    build::request(&mut out, text.as_bytes(), &head, how);
    String::from_utf8(out).unwrap()
}

fn plain(lines: &str, sender: Sender) -> String {
    forwarded(lines, sender, &ForwardRequest::default())
}

#[test]
fn what_needs_no_change_goes_as_it_came() {
    assert_eq!(plain("A: 1\r\nB: 2\r\n", Sender::App), "GET /x?q HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n");
}

#[test]
fn class_07_cve_2024_45410_connection_nominates_our_headers() {
    let lines = "Connection: close, Host, Content-Length, X-Meshd-Source, X-A, traceparent\r\nX-A: 1\r\nX-B: 2\r\n\
                 Content-Length: 0\r\n";
    let how = ForwardRequest { source: Some("spiffe://td/node/n"), ..ForwardRequest::default() };
    let out = forwarded(lines, Sender::Peer, &how);
    assert_eq!(
        out,
        "GET /x?q HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nContent-Length: 0\r\nx-meshd-source: spiffe://td/node/n\r\n\r\n"
    );
}

#[test]
fn class_07_hop_by_hop_headers_end_here() {
    let lines = "TE: trailers\r\nUpgrade: websocket\r\nConnection: upgrade, te\r\nKeep-Alive: x\r\nProxy-Connection: x\r\n\
                 Proxy-Authorization: x\r\nProxy-Authenticate: x\r\nHTTP2-Settings: x\r\nX: 1\r\n";
    assert_eq!(plain(lines, Sender::App), "GET /x?q HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    let many = format!("Connection: {}\r\n", (0..20).map(|i| format!("x{i}")).collect::<Vec<_>>().join(","));
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(request(text.as_bytes(), Sender::App).unwrap_err().status, 400);
}

#[test]
fn class_08_cve_2023_27487_internal_headers_are_stripped_in_every_spelling() {
    let spellings =
        ["x-meshd-source", "X-Meshd-Source", "x_meshd_source", "X-MESHD_answer", "x-meshd-attempt", "x-meshd-new"];
    for name in spellings {
        for sender in [Sender::App, Sender::Peer] {
            let out = plain(&format!("{name}: evil\r\nX: 1\r\n{name}: evil\r\n"), sender);
            assert_eq!(out, "GET /x?q HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", "{name}");
        }
    }
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nx-meshd-attempt: 2\r\n\r\n";
    assert_eq!(request(text, Sender::App).unwrap().unwrap().attempt, 0, "an app is not believed");
    assert_eq!(request(text, Sender::Peer).unwrap().unwrap().attempt, 2);
    for certificate in ["X-Forwarded-Client-Cert", "x_forwarded_client_cert"] {
        for sender in [Sender::App, Sender::Peer] {
            let out = plain(&format!("{certificate}: By=evil\r\nX-Forwarded-For: 1.1.1.1\r\n"), sender);
            assert_eq!(out, "GET /x?q HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
        }
    }
}

#[test]
fn class_08_an_app_cannot_answer_as_a_proxy() {
    let text = b"HTTP/1.1 503 No\r\nx-meshd-answer: UH\r\nContent-Length: 0\r\n\r\n";
    let app = response(text, Sender::App, false).unwrap().unwrap();
    let peer = response(text, Sender::Peer, false).unwrap().unwrap();
    assert!(app.answer.is_none());
    assert_eq!(peer.answer.unwrap().of(text), b"UH");
    for head in [app, peer] {
        let mut out = Vec::new();
        build::response(&mut out, text, &head, &ForwardResponse::default());
        assert_eq!(out, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    }
}

#[test]
fn traces_are_continued_or_begun() {
    let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
    let child = parent.child(|| 0x1234);
    assert_eq!(child.trace_id(), parent.trace_id());
    assert_eq!(child.span_id(), b"0000000000001235");
    assert!(child.sampled());
    let how = ForwardRequest { traceparent: Some(&child), ..ForwardRequest::default() };
    let out = forwarded(&format!("traceparent: {PARENT}\r\ntracestate: a=b\r\n"), Sender::App, &how);
    let expected = format!("tracestate: a=b\r\ntraceparent: {}\r\n", std::str::from_utf8(child.as_bytes()).unwrap());
    assert!(out.contains(&expected), "{out}");
    let broken = plain("traceparent: junk\r\ntracestate: a=b\r\nX: 1\r\n", Sender::App);
    assert_eq!(broken, "GET /x?q HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", "a state without a parent is dropped");
    let twice = plain(&format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\ntracestate: a=b\r\n"), Sender::App);
    assert_eq!(twice, "GET /x?q HTTP/1.1\r\nHost: a\r\n\r\n");
    let new = TraceParent::create(|| 0, true);
    assert!(TraceParent::parse(new.as_bytes()).is_some_and(|t| t.sampled()), "never all zero");
}

#[test]
fn traceparent_syntax_of_the_standard() {
    let good = ["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra", PARENT];
    for value in good {
        assert_eq!(&TraceParent::parse(value.as_bytes()).unwrap().as_bytes()[..2], b"00", "{value}");
    }
    let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
    let upper = PARENT.to_ascii_uppercase();
    let longer = format!("{PARENT}-x");
    let version = PARENT.replacen("00", "ff", 1);
    for value in ["", "00", zero_trace, zero_span, &upper, &longer, &version, &PARENT[..54], &PARENT.replace('-', "_")]
    {
        assert!(TraceParent::parse(value.as_bytes()).is_none(), "{value}");
    }
}

fn edits(add: &[(&str, &str)], set: &[(&str, &str)], remove: &[&str]) -> Result<Edits, String> {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let remove = remove.iter().map(|n| (*n).into()).collect();
    Edits::compile(&HeaderEdit { add: pairs(add), set: pairs(set), remove }).map_err(|e| e.path)
}

#[test]
fn edits_are_applied_in_order_rule_then_leg() {
    let rule = edits(&[("x-a", "rule")], &[("x-b", "rule")], &["x-c"]).unwrap();
    let leg = edits(&[("x-a", "leg")], &[("x-b", "leg")], &[]).unwrap();
    let how = ForwardRequest { edits: [Some(&rule), Some(&leg)], ..ForwardRequest::default() };
    let out = forwarded("X-A: app\r\nX_B: app\r\nX-C: app\r\nX-D: app\r\n", Sender::App, &how);
    assert_eq!(
        out,
        "GET /x?q HTTP/1.1\r\nHost: a\r\nX-A: app\r\nX-D: app\r\nx-a: rule\r\nx-b: leg\r\nx-a: leg\r\n\r\n"
    );
}

#[test]
fn class_09_edits_cannot_inject_or_touch_what_is_ours() {
    for value in ["a\r\nX: y", "a\nb", "a\0b", "\u{7f}"] {
        assert_eq!(edits(&[("x", value)], &[], &[]).unwrap_err(), "add[0]", "{value:?}");
    }
    for name in
        ["host", "Content-Length", "transfer_encoding", "connection", "te", "upgrade", "x-meshd-source", "a b", ""]
    {
        assert_eq!(edits(&[], &[(name, "v")], &[]).unwrap_err(), "set[0]", "{name}");
        assert_eq!(edits(&[], &[], &["ok", name]).unwrap_err(), "remove[1]", "{name}");
    }
}

#[test]
fn paths_versions_and_forms_are_rewritten() {
    let text = b"GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = request(text, Sender::App).unwrap().unwrap();
    let mut out = Vec::new();
    build::request(&mut out, text, &head, &ForwardRequest::default());
    assert_eq!(out, b"GET /?q HTTP/1.1\r\nHost: a\r\n\r\n");
    let how = ForwardRequest { path: Some(b"/new"), attempt: 12, close: true, ..ForwardRequest::default() };
    let out = forwarded("", Sender::App, &how);
    assert_eq!(out, "GET /new?q HTTP/1.1\r\nHost: a\r\nx-meshd-attempt: 12\r\nconnection: close\r\n\r\n");
}

#[test]
fn responses_change_framing_only_when_the_body_does() {
    let build = |text: &[u8], body: Body| {
        let head = response(text, Sender::App, false).unwrap().unwrap();
        let mut out = Vec::new();
        build::response(&mut out, text, &head, &ForwardResponse { body, close: true, ..ForwardResponse::default() });
        String::from_utf8(out).unwrap()
    };
    let out = build(b"HTTP/1.0 200 Fine\r\nX: 1\r\n\r\n", Body::Chunked);
    assert_eq!(out, "HTTP/1.1 200 OK\r\nX: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    let out = build(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\nX: 1\r\n\r\n", Body::UntilClose);
    assert_eq!(out, "HTTP/1.1 200 OK\r\nX: 1\r\nconnection: close\r\n\r\n");
    let out = build(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\nX: 1\r\n\r\n", Body::Same);
    assert_eq!(out, "HTTP/1.1 204 No\r\nX: 1\r\nconnection: close\r\n\r\n");
}

#[test]
fn many_gaps_between_forwarded_lines_are_kept_in_order() {
    let lines: String = (0..60).map(|i| format!("X{i}: 1\r\nx-meshd-{i}: 2\r\n")).collect();
    let out = plain(&lines, Sender::App);
    let kept: Vec<String> =
        fields::lines(&out.as_bytes()[19..]).map(|l| String::from_utf8_lossy(l.name).into()).collect();
    let expected: Vec<String> = std::iter::once("Host".to_owned()).chain((0..60).map(|i| format!("X{i}"))).collect();
    assert_eq!(kept, expected);
    assert!(names::is_internal(b"X_MESHD-0"));
}
