//! Response heads by offsets.

use std::mem::MaybeUninit;

use super::framing::Framing;
use super::walk::{Walk, Without};
use super::{FIELDS, Refused, Runs, Sender, Span};

/// A response head that is accepted.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    pub len: usize,
    /// The status line with its CRLF.
    pub line: Span,
    pub status: u16,
    pub headers: Span,
    pub runs: Runs,
    pub framing: Framing,
    /// The upstream's connection cannot be used again.
    pub close: bool,
    pub http10: bool,
    /// The flag with which a peer proxy marked its own answer. From an app: always `None`.
    pub answer: Option<Span>,
}

impl ResponseHead {
    /// 1xx: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads a response head; `None`: more bytes are needed. Every error is a 502. `to_head`: the request was HEAD.
pub fn response(bytes: &[u8], sender: Sender, to_head: bool) -> Result<Option<ResponseHead>, Refused> {
    let (max_head, max_fields) = sender.limits();
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n <= max_head => n,
        Ok(httparse::Status::Partial) if bytes.len() < max_head => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(bad("response head too long")),
        Err(_) => return Err(bad("malformed response head")),
    };
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(bad("malformed response head"));
    };
    if parsed.headers.len() > max_fields {
        return Err(bad("response head too long"));
    }
    let line = status_line(&bytes[..len], parsed.headers)?;
    let http10 = minor == 0;
    if !(100..=599).contains(&status) || status == 101 {
        return Err(bad("status that was not asked for"));
    }
    let mut walk = Walk::new(sender, false);
    walk.lines(&bytes[..len], line.end as usize, parsed.headers)?;
    let framing = framing(&walk, status, http10, to_head)?;
    let bodiless = status < 200 || status == 204;
    if bodiless && (walk.chunked || walk.content_length.is_some()) {
        // RFC 9110 8.6, RFC 9112 6.1: no such header there; a receiver that believes it waits for a body.
        let nominated = walk.is_nominated();
        walk.again(&bytes[..len], parsed.headers, Without { nominated, tracestate: false, framing: true });
    }
    Ok(Some(ResponseHead {
        len,
        line,
        status,
        headers: Span::new(line.end as usize, len - 2),
        close: walk.close || (http10 && !walk.keep_alive) || framing == Framing::UntilClose,
        runs: walk.runs,
        framing,
        http10,
        answer: walk.answer,
    }))
}

fn bad(reason: &'static str) -> Refused {
    Refused::new(502, reason)
}

/// `HTTP/1.x NNN[ reason]` CRLF, from the first byte.
fn status_line(head: &[u8], fields: &[httparse::Header<'_>]) -> Result<Span, Refused> {
    let end = match fields.first() {
        Some(field) => field.name.as_ptr() as usize - head.as_ptr() as usize,
        None => head.len().saturating_sub(2),
    };
    let line = head.get(..end).unwrap_or_default();
    let good = line.starts_with(b"HTTP/1.")
        && line.len() >= 14
        && line[12..].starts_with(if line.len() == 14 { b"\r" } else { b" " })
        && memchr::memchr2(b'\r', b'\n', line) == Some(end - 2)
        && line.ends_with(b"\r\n");
    if good { Ok(Span::new(0, end)) } else { Err(bad("malformed status line")) }
}

fn framing(walk: &Walk, status: u16, http10: bool, to_head: bool) -> Result<Framing, Refused> {
    match (walk.chunked, walk.content_length) {
        (true, Some(_)) => Err(bad("both Content-Length and Transfer-Encoding")),
        (true, None) if http10 => Err(bad("Transfer-Encoding in HTTP/1.0")),
        _ if to_head || status < 200 || status == 204 || status == 304 => Ok(Framing::None),
        (true, None) => Ok(Framing::chunked()),
        (false, Some(length)) => Ok(Framing::length(length)),
        (false, None) => Ok(Framing::UntilClose),
    }
}
