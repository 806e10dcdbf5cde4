//! Forwarded heads, written in one pass into the output buffer.

use super::edit::Edits;
use super::names;
use super::trace::TraceParent;
use crate::error::{push_number, reason_phrase};
use crate::http1::fields;
use crate::http1::head::RequestHead;
use crate::http1::response::ResponseHead;
use crate::http1::{Runs, Span};

/// What changes on a request's way.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardRequest<'a> {
    /// The path to send when it is not the raw one (normal form, prefix rewritten).
    pub path: Option<&'a [u8]>,
    /// Of the rule, then of the leg.
    pub edits: [Option<&'a Edits>; 2],
    pub traceparent: Option<&'a TraceParent>,
    /// Towards the app: the caller's identity.
    pub source: Option<&'a str>,
    /// Towards a peer proxy: the number of the attempt, 0: not told.
    pub attempt: u8,
    /// Ask the next one to close.
    pub close: bool,
}

/// Appends the request head to forward. `bytes`: what `head` was parsed from.
pub fn request(out: &mut Vec<u8>, bytes: &[u8], head: &RequestHead, how: &ForwardRequest<'_>) {
    out.reserve(head.len + 512);
    let plain = head.plain_line && how.path.is_none();
    if !plain {
        request_line(out, bytes, head, how.path);
    }
    copy_lines(out, bytes, plain.then_some(head.line), &head.runs, &how.edits);
    if let Some(traceparent) = how.traceparent {
        out.extend_from_slice(b"traceparent: ");
        out.extend_from_slice(traceparent.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(source) = how.source {
        header(out, names::SOURCE, source.as_bytes());
    }
    if how.attempt > 0 {
        out.extend_from_slice(names::ATTEMPT.as_bytes());
        out.extend_from_slice(b": ");
        push_number(out, u64::from(how.attempt));
        out.extend_from_slice(b"\r\n");
    }
    end(out, how.close);
}

/// The line in origin form and HTTP/1.1; the query goes as it came.
fn request_line(out: &mut Vec<u8>, bytes: &[u8], head: &RequestHead, path: Option<&[u8]>) {
    out.extend_from_slice(head.method.of(bytes));
    out.push(b' ');
    out.extend_from_slice(path.unwrap_or_else(|| head.path(bytes)));
    if head.has_query {
        out.push(b'?');
        out.extend_from_slice(head.query.of(bytes));
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// How the body of a response is sent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Body {
    /// As it came: framing headers stay.
    #[default]
    Same,
    /// It came until close and goes in chunks.
    Chunked,
    /// It came in chunks and goes until close, to an HTTP/1.0 client.
    UntilClose,
}

/// What changes on a response's way.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardResponse<'a> {
    /// Of the rule, then of the leg.
    pub edits: [Option<&'a Edits>; 2],
    pub body: Body,
    /// Say that the connection closes.
    pub close: bool,
}

/// Appends the response head to forward.
pub fn response(out: &mut Vec<u8>, bytes: &[u8], head: &ResponseHead, how: &ForwardResponse<'_>) {
    out.reserve(head.len + 128);
    if head.http10 {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(head.status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(head.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let line = (!head.http10).then_some(head.line);
    if how.body == Body::UntilClose {
        let keep = |name: &[u8]| !names::loose_eq(name, b"transfer-encoding") && !names::loose_eq(name, b"trailer");
        slow_copy(out, bytes, line, &head.runs, &how.edits, keep);
    } else {
        copy_lines(out, bytes, line, &head.runs, &how.edits);
    }
    if how.body == Body::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    end(out, how.close);
}

/// The start line (if it goes as it came) and the header lines: whole runs when nothing is edited.
fn copy_lines(out: &mut Vec<u8>, bytes: &[u8], line: Option<Span>, runs: &Runs, edits: &[Option<&Edits>; 2]) {
    if edits.iter().any(Option::is_some) {
        return slow_copy(out, bytes, line, runs, edits, |_| true);
    }
    let mut pending = line.unwrap_or_default();
    for run in runs.iter() {
        if run.start == pending.end {
            pending.end = run.end;
            continue;
        }
        out.extend_from_slice(pending.of(bytes));
        pending = run;
    }
    out.extend_from_slice(pending.of(bytes));
}

/// Line by line: rule's edits first, so the leg's remove and set also reach what the rule added.
fn slow_copy(
    out: &mut Vec<u8>,
    bytes: &[u8],
    line: Option<Span>,
    runs: &Runs,
    edits: &[Option<&Edits>; 2],
    keep: impl Fn(&[u8]) -> bool,
) {
    out.extend_from_slice(line.unwrap_or_default().of(bytes));
    let [rule, leg] = *edits;
    let gone = |edits: Option<&Edits>, name: &[u8]| edits.is_some_and(|e| e.drops(name));
    let all = runs.iter().flat_map(|run| fields::lines(run.of(bytes)));
    for field in all.filter(|f| keep(f.name) && !gone(rule, f.name) && !gone(leg, f.name)) {
        out.extend_from_slice(field.whole);
    }
    for field in fields::lines(rule.map_or(&[], Edits::lines)).filter(|f| !gone(leg, f.name)) {
        out.extend_from_slice(field.whole);
    }
    out.extend_from_slice(leg.map_or(&[], Edits::lines));
}

fn header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn end(out: &mut Vec<u8>, close: bool) {
    out.extend_from_slice(if close { b"connection: close\r\n\r\n" } else { b"\r\n" });
}
