//! W3C trace context (<https://www.w3.org/TR/trace-context/>, levels 1 and 2).

/// A `traceparent` in version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    text: [u8; 55],
}

impl TraceParent {
    /// Reads a header value. Versions above 00 are read by their first four fields, as the standard asks.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let _ = value;
        None
    }

    /// A new trace; all-zero ids are never made.
    pub fn create(random: impl FnMut() -> u64, sampled: bool) -> TraceParent {
        let _ = (random, sampled);
        TraceParent { text: [b'0'; 55] }
    }

    /// The same trace and flags with a new span id.
    pub fn child(&self, random: impl FnMut() -> u64) -> TraceParent {
        let _ = random;
        *self
    }

    pub fn as_bytes(&self) -> &[u8; 55] {
        &self.text
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> &[u8] {
        &self.text[3..35]
    }

    /// 16 hex digits.
    pub fn span_id(&self) -> &[u8] {
        &self.text[36..52]
    }

    pub fn sampled(&self) -> bool {
        matches!(self.text[54], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f')
    }
}
