//! The header lines of a head that was accepted, one by one.

/// Iterates (name, value, whole line with CRLF) over the header lines of an accepted head.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

/// One header line.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
    /// With its CRLF.
    pub whole: &'a [u8],
}

/// `headers`: what `RequestHead::headers` or a run spans.
pub fn lines(headers: &[u8]) -> Lines<'_> {
    Lines { rest: headers }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let end = memchr::memchr(b'\n', self.rest)? + 1;
        let (whole, rest) = self.rest.split_at(end);
        self.rest = rest;
        let colon = memchr::memchr(b':', whole)?;
        Some(Line { name: &whole[..colon], value: whole[colon + 1..].trim_ascii(), whole })
    }
}
