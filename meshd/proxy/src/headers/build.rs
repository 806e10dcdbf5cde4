//! Forwarded heads, written in one pass into the output buffer.

use super::edit::Edits;
use super::trace::TraceParent;
use crate::http1::head::RequestHead;
use crate::http1::response::ResponseHead;

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
    let _ = (out, bytes, head, how);
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
    let _ = (out, bytes, head, how);
}
