//! Request heads by offsets: nothing is copied, nothing is allocated.

use std::mem::MaybeUninit;

use super::framing::Framing;
use super::walk::Walk;
use super::{FIELDS, MAX_HEAD, Refused, Runs, Sender, Span, host};

/// A request head that is accepted. Spans are offsets into the bytes that were parsed.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Bytes of the head, the empty line included.
    pub len: usize,
    /// The request line with its CRLF.
    pub line: Span,
    pub method: Span,
    /// The path as sent, without the query; `*` for `OPTIONS *`; empty for an absolute form without a path.
    pub raw_path: Span,
    /// Without the `?`; see `has_query`.
    pub query: Span,
    pub has_query: bool,
    /// The value of Host, as sent.
    pub host: Span,
    /// All header lines, without the empty line.
    pub headers: Span,
    /// The header lines to forward (hygiene done).
    pub runs: Runs,
    pub framing: Framing,
    /// The sender ends the connection after this exchange.
    pub close: bool,
    pub http10: bool,
    /// The request line can be forwarded as it is (origin form, HTTP/1.1).
    pub plain_line: bool,
    pub is_head: bool,
    /// `Expect: 100-continue` (forwarded too).
    pub expect_continue: bool,
    /// The one valid `traceparent`, not in `runs`. Without one no `tracestate` is forwarded.
    pub traceparent: Option<Span>,
    /// `x-meshd-attempt` of a peer proxy, 0: none.
    pub attempt: u8,
}

impl RequestHead {
    /// The path to normalise and decide on: `/` for an absolute form without one.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.raw_path.is_empty() { b"/" } else { self.raw_path.of(bytes) }
    }
}

/// Reads a request head; `None`: more bytes are needed. After an error: answer, and close the connection.
pub fn request(bytes: &[u8], sender: Sender) -> Result<Option<RequestHead>, Refused> {
    let (max_head, max_fields) = sender.limits();
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n <= max_head => n,
        Ok(httparse::Status::Partial) if bytes.len() < max_head => return Ok(None),
        Ok(_) => return Err(too_long(bytes)),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::new(431, "too many header fields")),
        Err(httparse::Error::Version) => return Err(Refused::new(505, "not HTTP/1.1")),
        Err(_) => return Err(Refused::new(400, "malformed request head")),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refused::new(400, "malformed request head"));
    };
    if parsed.headers.len() > max_fields {
        return Err(Refused::new(431, "too many header fields"));
    }
    let base = bytes.as_ptr() as usize;
    let method = span(base, method.as_bytes());
    let target = span(base, target.as_bytes());
    let line = request_line(bytes, method, target)?;
    let http10 = minor == 0;
    let target = Target::read(bytes, method.of(bytes), target)?;

    let mut walk = Walk::new(sender, true);
    walk.lines(&bytes[..len], line.end as usize, parsed.headers)?;
    check_host(bytes, &walk, &target)?;
    let framing = framing(&walk, http10)?;
    Ok(Some(RequestHead {
        len,
        line,
        method,
        raw_path: target.path,
        query: target.query,
        has_query: target.has_query,
        host: walk.host,
        headers: Span::new(line.end as usize, len - 2),
        runs: walk.runs,
        framing,
        close: walk.close || http10,
        http10,
        plain_line: target.authority.is_none() && !http10,
        is_head: method.of(bytes) == b"HEAD",
        expect_continue: walk.expect_continue,
        traceparent: walk.traceparent,
        attempt: walk.attempt,
    }))
}

/// One Host, and the same as in an absolute form.
fn check_host(bytes: &[u8], walk: &Walk, target: &Target) -> Result<(), Refused> {
    if walk.hosts != 1 {
        return Err(Refused::new(400, "exactly one Host is needed"));
    }
    host::check(walk.host.of(bytes))?;
    match target.authority {
        Some(authority) if !host::same(authority.of(bytes), walk.host.of(bytes)) => {
            Err(Refused::new(400, "Host differs from the request target"))
        }
        _ => Ok(()),
    }
}

fn framing(walk: &Walk, http10: bool) -> Result<Framing, Refused> {
    match (walk.chunked, walk.content_length) {
        (true, Some(_)) => Err(Refused::new(400, "both Content-Length and Transfer-Encoding")),
        (true, None) if http10 => Err(Refused::new(400, "Transfer-Encoding in HTTP/1.0")),
        (true, None) => Ok(Framing::chunked()),
        (false, length) => Ok(Framing::length(length.unwrap_or(0))),
    }
}

fn span(base: usize, part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - base;
    Span::new(start, start + part.len())
}

fn too_long(bytes: &[u8]) -> Refused {
    match memchr::memchr(b'\n', &bytes[2..MAX_HEAD.min(bytes.len())]) {
        None => Refused::new(414, "request target too long"),
        Some(_) => Refused::new(431, "request head too long"),
    }
}

/// The request line must be exactly `METHOD SP TARGET SP HTTP/1.x CRLF`, after at most one CRLF (RFC 9112 2.2).
fn request_line(bytes: &[u8], method: Span, target: Span) -> Result<Span, Refused> {
    let bad = Refused::new(400, "malformed request line");
    let start = method.start as usize;
    if !matches!(&bytes[..start], b"" | b"\r\n") || method.end + 1 != target.start {
        return Err(bad);
    }
    let end = target.end as usize + b" HTTP/1.1\r\n".len();
    let tail = bytes.get(target.end as usize..end).ok_or(bad)?;
    if !tail.starts_with(b" HTTP/1.") || !tail.ends_with(b"\r\n") {
        return Err(bad);
    }
    Ok(Span::new(start, end))
}

struct Target {
    path: Span,
    query: Span,
    has_query: bool,
    /// Of an absolute form.
    authority: Option<Span>,
}

impl Target {
    fn read(bytes: &[u8], method: &[u8], target: Span) -> Result<Target, Refused> {
        let text = target.of(bytes);
        if method == b"CONNECT" {
            return Err(Refused::new(501, "CONNECT is not supported"));
        }
        let (path_start, authority) = match text {
            [b'/', ..] => (0, None),
            b"*" if method == b"OPTIONS" => (0, None),
            _ if text.get(..7).is_some_and(|t| t.eq_ignore_ascii_case(b"http://")) => {
                let end = text[7..].iter().position(|b| matches!(b, b'/' | b'?' | b'#')).map_or(text.len(), |i| i + 7);
                host::check(&text[7..end])?;
                (end, Some((7, end)))
            }
            _ => return Err(Refused::new(400, "bad request target")),
        };
        let mark = memchr::memchr(b'?', &text[path_start..]).map(|i| path_start + i);
        let path_end = mark.unwrap_or(text.len());
        let query_start = mark.map_or(text.len(), |i| i + 1);
        // `#` never goes over the wire; bytes beyond ASCII are read differently by different backends.
        if text[query_start..].iter().any(|&b| !(0x21..0x7f).contains(&b) || b == b'#') {
            return Err(Refused::new(400, "bad character in the query"));
        }
        let at = |from: usize, to: usize| Span::new(target.start as usize + from, target.start as usize + to);
        Ok(Target {
            path: at(path_start, path_end),
            query: at(query_start, text.len()),
            has_query: mark.is_some(),
            authority: authority.map(|(from, to)| at(from, to)),
        })
    }
}
