//! Which headers are ours, which end at each hop, and how names are compared.

use crate::http1::Sender;

/// The caller's SPIFFE identity, given to the app.
pub const SOURCE: &str = "x-meshd-source";
/// Marks a proxy's own answer to the next proxy, with its flag.
pub const ANSWER: &str = "x-meshd-answer";
/// Number of the attempt, told to the next proxy.
pub const ATTEMPT: &str = "x-meshd-attempt";

/// What a header line means to a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Forwarded as it is.
    Keep,
    /// Ends here.
    Drop,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    Traceparent,
    Tracestate,
    /// Ours: read from a peer proxy, never forwarded.
    Attempt,
    /// Ours: read from a peer proxy, never forwarded.
    Answer,
    /// A framing header spelled with `_`: a backend may take it for the real one.
    Misspelt,
}

/// Names are the same if they differ in case or in `_` for `-`: some backends do not tell these apart.
#[inline]
pub fn loose_eq(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len() && name.iter().zip(lower).all(|(&a, &b)| fold(a) == b)
}

#[inline]
fn fold(b: u8) -> u8 {
    if b == b'_' { b'-' } else { b.to_ascii_lowercase() }
}

/// Every header that begins with `x-meshd-` is ours.
#[inline]
pub fn is_internal(name: &[u8]) -> bool {
    name.get(..8).is_some_and(|n| loose_eq(n, b"x-meshd-"))
}

/// A header that frames the message or names its target: no edit and no Connection list touches it.
pub fn is_framing(name: &[u8]) -> bool {
    [&b"host"[..], b"content-length", b"transfer-encoding"].iter().any(|n| loose_eq(name, n))
}

/// Whether a header ends at each hop (RFC 9110 section 7.6.1).
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(classify(name, true), Field::Drop | Field::Connection)
}

/// By length first: most headers cost one comparison.
#[inline]
pub fn classify(name: &[u8], request: bool) -> Field {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    let when = |hit: bool, field: Field| if hit { field } else { Field::Keep };
    match name.len() {
        2 => when(is(b"te"), Field::Drop),
        4 => when(request && is(b"host"), Field::Host),
        6 => when(request && is(b"expect"), Field::Expect),
        7 => when(is(b"upgrade"), Field::Drop),
        10 if is(b"connection") => Field::Connection,
        10 if request && is(b"tracestate") => Field::Tracestate,
        10 => when(is(b"keep-alive"), Field::Drop),
        11 => when(request && is(b"traceparent"), Field::Traceparent),
        14 if is(b"content-length") => Field::ContentLength,
        14 if is_internal(name) => Field::Drop,
        14 if is(b"http2-settings") => Field::Drop,
        14 => when(loose_eq(name, b"content-length"), Field::Misspelt),
        16 => when(is(b"proxy-connection"), Field::Drop),
        17 if is(b"transfer-encoding") => Field::TransferEncoding,
        17 => when(loose_eq(name, b"transfer-encoding"), Field::Misspelt),
        18 if is(b"proxy-authenticate") => Field::Drop,
        19 if is(b"proxy-authorization") => Field::Drop,
        _ => Field::Keep,
    }
}

/// As `classify`, with our own headers told apart. The spelling must be exact: only then it is ours.
#[inline]
pub fn classify_all(name: &[u8], sender: Sender, request: bool) -> Field {
    if !is_internal(name) {
        // who calls, the certificate says: nobody else's word for it passes
        let claim = request && name.len() == 23 && loose_eq(name, b"x-forwarded-client-cert");
        return if claim { Field::Drop } else { classify(name, request) };
    }
    match sender {
        Sender::Peer if request && name == ATTEMPT.as_bytes() => Field::Attempt,
        Sender::Peer if !request && name == ANSWER.as_bytes() => Field::Answer,
        _ => Field::Drop,
    }
}
