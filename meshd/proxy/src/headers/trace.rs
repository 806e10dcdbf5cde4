//! W3C trace context (<https://www.w3.org/TR/trace-context/>, levels 1 and 2).

/// A `traceparent` in version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    text: [u8; 55],
}

impl TraceParent {
    /// Reads a header value. Versions above 00 are read by their first four fields, as the standard asks.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let first: &[u8; 55] = value.first_chunk()?;
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let dashes = first[2] == b'-' && first[35] == b'-' && first[52] == b'-';
        let digits = [&first[..2], &first[3..35], &first[36..52], &first[53..]];
        if !dashes || !digits.iter().all(|part| part.iter().all(hex)) {
            return None;
        }
        let zero = |part: &[u8]| part.iter().all(|&b| b == b'0');
        if zero(&first[3..35]) || zero(&first[36..52]) || &first[..2] == b"ff" {
            return None;
        }
        let longer = value.len() > 55;
        if longer && (&first[..2] == b"00" || value[55] != b'-') {
            return None;
        }
        let mut text = *first;
        if &text[..2] != b"00" {
            text[..2].copy_from_slice(b"00");
            // Of an unknown version only `sampled` is known.
            let sampled = TraceParent { text }.sampled();
            text[53..].copy_from_slice(if sampled { b"01" } else { b"00" });
        }
        Some(TraceParent { text })
    }

    /// A new trace; all-zero ids are never made. Level 2's `random` flag is set, for the id is.
    pub fn create(mut random: impl FnMut() -> u64, sampled: bool) -> TraceParent {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-02";
        put_hex(&mut text[3..19], random());
        put_hex(&mut text[19..35], random() | 1);
        put_hex(&mut text[36..52], random() | 1);
        if sampled {
            text[54] = b'3';
        }
        TraceParent { text }
    }

    /// The same trace and flags with a new span id.
    pub fn child(&self, mut random: impl FnMut() -> u64) -> TraceParent {
        let mut child = *self;
        put_hex(&mut child.text[36..52], random() | 1);
        child
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

fn put_hex(out: &mut [u8], value: u64) {
    for (i, place) in out.iter_mut().enumerate() {
        *place = b"0123456789abcdef"[(value >> (60 - 4 * i)) as usize & 15];
    }
}
