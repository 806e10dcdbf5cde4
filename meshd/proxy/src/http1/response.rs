//! Response heads by offsets.

use super::framing::Framing;
use super::{Refused, Runs, Sender, Span};

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
    let _ = (bytes, sender, to_head, Framing::None, Runs::new());
    Err(Refused::new(502, "not implemented"))
}
