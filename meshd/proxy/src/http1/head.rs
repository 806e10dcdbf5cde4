//! Request heads by offsets: nothing is copied, nothing is allocated.

use super::framing::Framing;
use super::{Refused, Runs, Sender, Span};

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
    /// The one valid-looking `traceparent`, not in `runs`.
    pub traceparent: Option<Span>,
    /// `x-meshd-attempt` of a peer proxy, 0: none.
    pub attempt: u8,
}

/// Reads a request head; `None`: more bytes are needed. After an error: answer, and close the connection.
pub fn request(bytes: &[u8], sender: Sender) -> Result<Option<RequestHead>, Refused> {
    let _ = (bytes, sender, Framing::None, Runs::new());
    Err(Refused::new(400, "not implemented"))
}
