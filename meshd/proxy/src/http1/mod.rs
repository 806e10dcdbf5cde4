//! HTTP/1.1 without I/O: heads by offsets, message framing, the path's normal form.
//!
//! What is ambiguous is refused before anything is forwarded (RFC 9110, RFC 9112, and the ways to fail of
//! `docs/` that other proxies met).

pub mod fields;
pub mod framing;
pub mod head;
pub mod host;
pub mod path;
pub mod response;
#[cfg(test)]
mod tests;
mod walk;

/// Longest head in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most header fields of a head.
pub const MAX_FIELDS: usize = 128;
/// What a proxy of the mesh may add to a head that it accepted: what one takes the next one takes too.
const ADDED_HEAD: usize = 4 * 1024;
const ADDED_FIELDS: usize = 16;
/// Room for the fields of any head.
const FIELDS: usize = MAX_FIELDS + ADDED_FIELDS;

/// A part of a buffer, by offsets from the head's first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes, given the buffer that was parsed.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Who wrote the bytes (or who will read them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// An application, or a plaintext endpoint: none of our internal headers is believed.
    App,
    /// A proxy of the mesh, its identity verified.
    Peer,
}

impl Sender {
    /// Longest head in bytes, and most fields of it.
    fn limits(self) -> (usize, usize) {
        match self {
            Sender::App => (MAX_HEAD, MAX_FIELDS),
            Sender::Peer => (MAX_HEAD + ADDED_HEAD, FIELDS),
        }
    }
}

/// A message that is not accepted: the status to answer (502 for a response) and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub reason: &'static str,
}

impl Refused {
    pub(crate) fn new(status: u16, reason: &'static str) -> Refused {
        Refused { status, reason }
    }
}

/// The runs of header lines to forward untouched; lines that are next to each other are one run.
#[derive(Debug, Clone)]
pub struct Runs {
    inline: [Span; Runs::INLINE],
    count: usize,
    more: Vec<Span>,
}

impl Runs {
    /// More gaps than this between forwarded lines are rare: they go to the heap.
    const INLINE: usize = 12;

    pub(crate) fn new() -> Runs {
        Runs { inline: [Span { start: 0, end: 0 }; Runs::INLINE], count: 0, more: Vec::new() }
    }

    /// Adds a line that follows all earlier ones.
    #[inline]
    pub(crate) fn push(&mut self, start: usize, end: usize) {
        let last = match self.more.last_mut() {
            Some(last) => Some(last),
            None => self.count.checked_sub(1).map(|i| &mut self.inline[i]),
        };
        if let Some(last) = last
            && last.end as usize == start
        {
            last.end = end as u32;
            return;
        }
        if self.count < Runs::INLINE {
            self.inline[self.count] = Span::new(start, end);
            self.count += 1;
        } else {
            self.more.push(Span::new(start, end));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.inline[..self.count].iter().chain(&self.more).copied()
    }
}

/// Whether a head may be complete: parse when this says so, and at the first read.
///
/// A head that trickles in is scanned once, not parsed again for each piece.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScan {
    seen: usize,
}

impl HeadScan {
    /// `bytes`: all that was read of the head so far.
    pub fn ready(&mut self, bytes: &[u8]) -> bool {
        let first = self.seen == 0;
        let from = self.seen.saturating_sub(3);
        self.seen = bytes.len();
        first
            || bytes.len() >= MAX_HEAD
            || memchr::memmem::find(&bytes[from..], b"\n\r\n").is_some()
            || memchr::memmem::find(&bytes[from..], b"\n\n").is_some()
    }
}
