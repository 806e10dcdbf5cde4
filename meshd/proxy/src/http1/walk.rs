//! One walk over the header lines of a head: what they say about framing, and which of them are forwarded.

use super::{Refused, Runs, Sender, Span};
use crate::headers::names::{self, Field};
use crate::headers::trace::TraceParent;

/// Most names that Connection may nominate: each is compared with each line.
const MAX_NOMINATED: usize = 16;

/// What the lines say.
#[derive(Debug)]
pub(super) struct Walk {
    sender: Sender,
    request: bool,
    pub(super) runs: Runs,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) hosts: u32,
    pub(super) host: Span,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    pub(super) traceparent: Option<Span>,
    traceparents: u32,
    tracestate: bool,
    pub(super) attempt: u8,
    pub(super) answer: Option<Span>,
    nominated: usize,
}

/// Which lines a second, rare walk leaves out as well.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Without {
    pub(super) nominated: bool,
    pub(super) tracestate: bool,
    pub(super) framing: bool,
}

impl Walk {
    pub(super) fn new(sender: Sender, request: bool) -> Walk {
        Walk {
            sender,
            request,
            runs: Runs::new(),
            content_length: None,
            chunked: false,
            hosts: 0,
            host: Span::default(),
            close: false,
            keep_alive: false,
            expect_continue: false,
            traceparent: None,
            traceparents: 0,
            tracestate: false,
            attempt: 0,
            answer: None,
            nominated: 0,
        }
    }

    fn bad(&self, reason: &'static str) -> Refused {
        Refused::new(if self.request { 400 } else { 502 }, reason)
    }

    /// Walks the lines of a whole head. Each line must begin where the one before ended and end in CRLF: the bytes
    /// are forwarded, and a receiver might see another line end than we did.
    pub(super) fn lines(&mut self, head: &[u8], start: usize, fields: &[httparse::Header<'_>]) -> Result<(), Refused> {
        if !head.ends_with(b"\r\n\r\n") {
            return Err(self.bad("line not ended by CRLF"));
        }
        let base = head.as_ptr() as usize;
        let mut from = start;
        for (i, field) in fields.iter().enumerate() {
            let to = fields.get(i + 1).map_or(head.len() - 2, |next| next.name.as_ptr() as usize - base);
            if field.name.as_ptr() as usize - base != from || to < from + 2 || &head[to - 2..to] != b"\r\n" {
                return Err(self.bad("line not ended by CRLF"));
            }
            if self.field(base, field)? {
                self.runs.push(from, to);
            }
            from = to;
        }
        let without = Without {
            nominated: self.nominated > 0,
            tracestate: self.tracestate && self.traceparent.is_none(),
            framing: false,
        };
        if without.nominated || without.tracestate {
            self.again(head, fields, without);
        }
        Ok(())
    }

    /// Reads one line; true: it is forwarded.
    #[inline]
    fn field(&mut self, base: usize, field: &httparse::Header<'_>) -> Result<bool, Refused> {
        let value = field.value;
        match names::classify_all(field.name.as_bytes(), self.sender, self.request) {
            Field::Keep => return Ok(true),
            Field::Drop => return Ok(false),
            Field::Host => {
                self.hosts += 1;
                self.host = value_span(base, value);
            }
            Field::Connection => {
                self.connection(value)?;
                return Ok(false);
            }
            Field::ContentLength => self.content_length(value)?,
            Field::TransferEncoding => self.transfer_encoding(value)?,
            Field::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refused::new(417, "only 100-continue can be expected"));
                }
                self.expect_continue = true;
            }
            Field::Traceparent => {
                self.traceparents += 1;
                let one = self.traceparents == 1 && TraceParent::parse(value).is_some();
                self.traceparent = one.then(|| value_span(base, value));
                return Ok(false);
            }
            Field::Tracestate => self.tracestate = true,
            Field::Attempt => {
                self.attempt = attempt(value);
                return Ok(false);
            }
            Field::Answer => {
                self.answer = (!value.is_empty()).then(|| value_span(base, value));
                return Ok(false);
            }
            Field::Misspelt => return Err(self.bad("framing header with an underscore")),
        }
        Ok(true)
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Refused> {
        for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !token.is_empty() && !names::is_hop_by_hop(token) {
                self.nominated += 1;
            }
        }
        if self.nominated > MAX_NOMINATED {
            return Err(self.bad("Connection names too many fields"));
        }
        Ok(())
    }

    /// One value of digits only: no sign, no list, no space inside (RFC 9112 section 6.3).
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refused> {
        let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
        if !digits || self.content_length.is_some() {
            return Err(self.bad("bad Content-Length"));
        }
        self.content_length = Some(value.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0')));
        Ok(())
    }

    /// `chunked`, once: any other coding is one that somebody reads differently.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refused> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(self.bad("bad Transfer-Encoding"));
        }
        self.chunked = true;
        Ok(())
    }

    /// A second walk for what is rare. Nomination never reaches what frames the message or names its target.
    pub(super) fn again(&mut self, head: &[u8], fields: &[httparse::Header<'_>], without: Without) {
        let base = head.as_ptr() as usize;
        self.runs = Runs::new();
        for (i, field) in fields.iter().enumerate() {
            let from = field.name.as_ptr() as usize - base;
            let to = fields.get(i + 1).map_or(head.len() - 2, |next| next.name.as_ptr() as usize - base);
            let kept = match names::classify_all(field.name.as_bytes(), self.sender, self.request) {
                Field::Keep | Field::Expect => !without.nominated || !is_nominated(fields, field.name),
                Field::Tracestate => !without.tracestate && (!without.nominated || !is_nominated(fields, field.name)),
                Field::Host => true,
                Field::ContentLength | Field::TransferEncoding => !without.framing,
                _ => false,
            };
            if kept {
                self.runs.push(from, to);
            }
        }
    }

    pub(super) fn is_nominated(&self) -> bool {
        self.nominated > 0
    }
}

fn is_nominated(fields: &[httparse::Header<'_>], name: &str) -> bool {
    fields
        .iter()
        .filter(|f| f.name.eq_ignore_ascii_case("connection"))
        .any(|f| f.value.split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes())))
}

fn value_span(base: usize, value: &[u8]) -> Span {
    // An empty value need not point into the head.
    if value.is_empty() {
        return Span::default();
    }
    let start = value.as_ptr() as usize - base;
    Span::new(start, start + value.len())
}

/// 1 to 255; anything else: none.
fn attempt(value: &[u8]) -> u8 {
    std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}
