//! Table tests of heads, bodies and paths, named after what they would have caught (`security.md`).

use super::framing::{BadBody, Framing};
use super::head::{RequestHead, request};
use super::host;
use super::path::{Normal, has_parameters, normalize, without_parameters};
use super::response::response;
use super::{HeadScan, MAX_HEAD, Sender};

fn head(text: &str) -> Result<RequestHead, u16> {
    match request(text.as_bytes(), Sender::App) {
        Ok(Some(head)) => Ok(head),
        Ok(None) => panic!("not complete: {text:?}"),
        Err(refused) => Err(refused.status),
    }
}

fn refused(lines: &str) -> u16 {
    head(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).expect_err(lines)
}

#[test]
fn a_plain_request_is_read_by_offsets() {
    let text = b"GET /a/b?x=1 HTTP/1.1\r\nHost: api\r\nUser-Agent: t\r\n\r\nrest";
    let head = request(text, Sender::App).unwrap().unwrap();
    assert_eq!(head.len, text.len() - 4);
    assert_eq!(head.method.of(text), b"GET");
    assert_eq!(head.path(text), b"/a/b");
    assert_eq!(head.query.of(text), b"x=1");
    assert_eq!(head.host.of(text), b"api");
    assert_eq!(head.framing, Framing::None);
    assert!(head.plain_line && !head.close && !head.http10 && !head.is_head);
    assert_eq!(head.runs.iter().count(), 1);
}

#[test]
fn an_unfinished_head_asks_for_more() {
    let text = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n";
    for end in 0..text.len() {
        assert!(request(&text[..end], Sender::App).unwrap().is_none(), "{end}");
    }
}

#[test]
fn class_01_cve_2005_2088_content_length_and_transfer_encoding() {
    for coding in ["chunked", "Chunked", "CHUNKED"] {
        assert_eq!(refused(&format!("Content-Length: 3\r\nTransfer-Encoding: {coding}\r\n")), 400);
        assert_eq!(refused(&format!("Transfer-Encoding: {coding}\r\nContent-Length: 3\r\n")), 400);
        assert_eq!(refused(&format!("transfer_encoding: {coding}\r\nContent-Length: 3\r\n")), 400);
    }
    assert_eq!(refused("content_length: 3\r\n"), 400);
}

#[test]
fn class_02_rustsec_2026_0034_http10_or_several_transfer_encodings() {
    assert_eq!(head("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err(), 400);
    for value in ["chunked, identity", "identity", "gzip, chunked", "chunked, chunked", "", "xchunked", "chunked;q=1"] {
        assert_eq!(refused(&format!("Transfer-Encoding: {value}\r\n")), 400, "{value}");
    }
    assert_eq!(refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
    assert_eq!(refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400);
}

#[test]
fn class_05_cve_2021_32715_content_length_syntax() {
    for value in
        ["+5", "-5", "0x5", "", " ", "5, 5", "5,5", "5 5", "5;", "1e1", "5.0", "\u{665}", "99999999999999999999"]
    {
        assert_eq!(refused(&format!("Content-Length: {value}\r\n")), 400, "{value:?}");
    }
    assert_eq!(refused("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
    assert_eq!(head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n").unwrap().framing, Framing::Length(7));
}

#[test]
fn class_01_lines_that_two_receivers_read_differently() {
    for text in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        // 505 where the version is not in its place.
        assert!(matches!(head(text), Err(400 | 505)), "{text:?}");
    }
    assert!(head("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok(), "one empty line before is allowed");
}

#[test]
fn versions_methods_and_expectations_that_are_not_served() {
    assert_eq!(head("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), 505);
    assert_eq!(head("GET / HTTP/1.2\r\nHost: a\r\n\r\n").unwrap_err(), 505);
    assert_eq!(head("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").unwrap_err(), 501);
    assert_eq!(refused("Expect: 200-maybe\r\n"), 417);
    assert!(head("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").unwrap().expect_continue);
}

#[test]
fn class_13_cve_2021_39155_hosts() {
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a%2e\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:8080/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(head(text).unwrap_err(), 400, "{text:?}");
    }
    for (target, path) in [("http://A:80/x", "/x"), ("HTTP://a./x", "/x"), ("http://a", "/"), ("http://a?q", "/")] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = head(&text).unwrap();
        assert_eq!(head.path(text.as_bytes()), path.as_bytes(), "{target}");
        assert!(!head.plain_line, "{target}");
    }
    for (given, canonical) in [
        ("API", "api"),
        ("api.", "api"),
        ("api:80", "api"),
        ("Api.:8080", "api:8080"),
        ("[::1]:80", "[::1]"),
        ("a:", "a"),
    ] {
        let mut out = Vec::new();
        host::check(given.as_bytes()).unwrap();
        host::canonical(given.as_bytes(), &mut out);
        assert_eq!(out, canonical.as_bytes(), "{given}");
    }
}

#[test]
fn class_23_limits_of_a_head() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(head(&long).unwrap_err(), 414);
    let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    assert_eq!(head(&big).unwrap_err(), 431);
    let unfinished = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(MAX_HEAD));
    assert_eq!(head(&unfinished).unwrap_err(), 431);
    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    assert!(head(&fields(128)).is_ok());
    assert_eq!(head(&fields(129)).unwrap_err(), 431);
}

#[test]
fn class_23_what_one_proxy_takes_the_next_one_takes_with_what_was_added() {
    let lines = |n: usize| "x: y\r\n".repeat(n);
    for (count, app, peer) in [(127, true, true), (128, false, true), (143, false, true), (144, false, false)] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(count));
        assert_eq!(request(text.as_bytes(), Sender::App).is_ok(), app, "{count}");
        assert_eq!(request(text.as_bytes(), Sender::Peer).is_ok(), peer, "{count}");
        let text = format!("HTTP/1.1 200 OK\r\nServer: a\r\n{}\r\n", lines(count));
        assert_eq!(response(text.as_bytes(), Sender::App, false).is_ok(), app, "{count}");
        assert_eq!(response(text.as_bytes(), Sender::Peer, false).is_ok(), peer, "{count}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    assert_eq!(request(long.as_bytes(), Sender::App).unwrap_err().status, 431);
    assert!(request(long.as_bytes(), Sender::Peer).unwrap().is_some());
}

#[test]
fn a_head_in_pieces_is_scanned_once() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut scan = HeadScan::default();
    let ready: Vec<usize> = (1..=text.len()).filter(|n| scan.ready(&text[..*n])).collect();
    assert_eq!(ready, [1, text.len()]);
}

fn body(text: &[u8], mut framing: Framing) -> Result<(usize, bool, Vec<u8>), BadBody> {
    let mut payload = Vec::new();
    let advance = framing.decode(text, |part| payload.extend_from_slice(part))?;
    Ok((advance.used, advance.done, payload))
}

#[test]
fn bodies_end_where_their_framing_says() {
    assert_eq!(body(b"abcdef", Framing::length(3)).unwrap(), (3, true, b"abc".to_vec()));
    assert_eq!(body(b"ab", Framing::length(3)).unwrap(), (2, false, b"ab".to_vec()));
    assert_eq!(body(b"ab", Framing::length(0)).unwrap(), (0, true, Vec::new()));
    assert_eq!(body(b"ab", Framing::UntilClose).unwrap(), (2, false, b"ab".to_vec()));
    let chunked = b"3\r\nabc\r\nA;n=v;m=\"q r\"\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET";
    assert_eq!(body(chunked, Framing::chunked()).unwrap(), (chunked.len() - 3, true, b"abc0123456789".to_vec()));
}

#[test]
fn class_06_rustsec_2021_0079_chunks() {
    for text in [
        &b"\r\n"[..],
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1\t\r\n",
        b"1_0\r\n",
        b"1\n",
        b"1\rx",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\rx",
        b"ffffffffffffffff\r\n",
        b"10000000000000000\r\n",
        b"0000000000000001\r\n",
        b"1;\r\n",
        b"1; a\r\n",
        b"1;a\n",
        b"1;a\0\r\n",
        b"1;a=\"\n",
        b"1;a\rb\r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\nX\r\n",
        b"0\r\n X: y\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\nX: y\n",
        b"0\r\nX: \0\r\n",
        b"0\r\n: y\r\n",
        b"0\r\n\rx",
    ] {
        assert!(body(text, Framing::chunked()).is_err(), "{:?}", String::from_utf8_lossy(text));
    }
    let long = [b"1;".as_slice(), &b"a".repeat(300), b"\r\n"].concat();
    assert!(body(&long, Framing::chunked()).is_err());
}

#[test]
fn class_06_trailers_do_not_frame_route_or_identify() {
    let forbidden = [
        "Content-Length",
        "transfer-encoding",
        "Transfer_Encoding",
        "HOST",
        "Authorization",
        "X-Meshd-Source",
        "x_meshd_source",
        "x-meshd-anything",
        "X-Forwarded-Client-Cert",
        "traceparent",
    ];
    for name in forbidden {
        assert!(body(format!("0\r\n{name}: 1\r\n\r\n").as_bytes(), Framing::chunked()).is_err(), "{name}");
    }
    assert!(body(b"0\r\ngrpc-status: 0\r\nX-Checksum: a\r\n\r\n", Framing::chunked()).unwrap().1);
    let many = format!("0\r\n{}", "a: b\r\n".repeat(2000));
    assert!(body(many.as_bytes(), Framing::chunked()).is_err());
}

fn reply(text: &str, to_head: bool) -> Option<(u16, Framing, bool)> {
    let head = response(text.as_bytes(), Sender::App, to_head).ok()?.expect("complete");
    Some((head.status, head.framing, head.close))
}

#[test]
fn responses_are_framed_by_status_method_and_headers() {
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(reply(&format!("{ok}Content-Length: 3\r\n\r\n"), false), Some((200, Framing::Length(3), false)));
    assert_eq!(reply(&format!("{ok}Content-Length: 3\r\n\r\n"), true), Some((200, Framing::None, false)));
    assert_eq!(reply(&format!("{ok}\r\n"), false), Some((200, Framing::UntilClose, true)));
    assert_eq!(reply("HTTP/1.1 204\r\n\r\n", false), Some((204, Framing::None, false)));
    assert_eq!(reply("HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", false), Some((304, Framing::None, false)));
    assert_eq!(reply("HTTP/1.1 100 Continue\r\n\r\n", false), Some((100, Framing::None, false)));
    assert_eq!(reply("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false), Some((200, Framing::Length(3), true)));
    assert_eq!(
        reply(&format!("{ok}Transfer-Encoding: chunked\r\n\r\n"), false),
        Some((200, Framing::chunked(), false))
    );
}

#[test]
fn class_01_responses_that_poison_the_next_one() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 600 High\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
    ] {
        assert_eq!(reply(text, false), None, "{text:?}");
    }
}

fn normal(path: &str) -> Option<String> {
    let mut out = Vec::new();
    match normalize(path.as_bytes(), &mut out).ok()? {
        Normal::Same => Some(path.to_owned()),
        Normal::Changed => String::from_utf8(out).ok(),
    }
}

#[test]
fn class_10_cve_2019_9901_one_normal_form() {
    for (path, expected) in [
        ("/", "/"),
        ("*", "*"),
        ("/a.b/..c/.d", "/a.b/..c/.d"),
        ("//a///b//", "/a/b/"),
        ("/./a/./b/.", "/a/b/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/%61%2d%7E", "/a-~"),
        ("/%2e%2E/admin", "/admin"),
        ("/a/.%2e/admin", "/admin"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/a%20b%3f%23", "/a%20b%3F%23"),
        ("/a;x=y/b", "/a;x=y/b"),
    ] {
        assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
    }
    for path in [
        "", "a", "/%2f", "/%2F", "/%5c", "/%00", "/\\a", "/a#b", "/a?b", "/%", "/%4", "/%zz", "/a b", "/\u{7f}", "/\t",
        "/\u{e9}",
    ] {
        assert_eq!(normal(path), None, "{path:?}");
    }
}

#[test]
fn class_11_cve_2026_73551_dot_segments_with_parameters() {
    for path in ["/..;x/admin", "/a/..;/b", "/.;a=b/c", "/%2e%2e;x/", "/..%3bx/", "/%2e%3B/", "/a/..;x"] {
        assert_eq!(normal(path), None, "{path}");
    }
    let mut out = Vec::new();
    for (path, bare) in [("/a;x=y/b", "/a/b"), ("/a/b;v", "/a/b"), ("/;x/a", "/a"), ("/a%3Bx/b", "/a/b"), ("/a", "/a")]
    {
        without_parameters(path.as_bytes(), &mut out);
        assert_eq!(out, bare.as_bytes(), "{path}");
        assert_eq!(has_parameters(path.as_bytes()), path != bare, "{path}");
    }
}

#[test]
fn class_10_fragments_and_raw_bytes_in_the_query() {
    for target in ["/a?b#c", "/a?b\u{e9}", "http://a#/x", "http://a/x?#"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let bytes = text.as_bytes();
        let taken = request(bytes, Sender::App).map(|h| h.expect("complete"));
        let path_refused = |h: &RequestHead| normalize(h.path(bytes), &mut Vec::new()).is_err();
        assert!(taken.is_err() || taken.is_ok_and(|h| path_refused(&h)), "{target}");
    }
}
