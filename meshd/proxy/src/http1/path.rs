//! The one normal form of a path, in which it is decided on and forwarded.

use super::Refused;

/// Whether the path is in normal form as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normal {
    Same,
    /// `out` holds the normal form.
    Changed,
}

const BAD: Refused = Refused { status: 400, reason: "bad path" };

/// Brings a path (no query) to its normal form. `out` is cleared when it is used.
///
/// Percent-encoded unreserved characters are decoded, hex digits are upper case, `//` is one `/`, dot segments are
/// resolved. Refused (400): `%2F`, `%5C`, `%00`, a broken `%`, `\`, `#`, white space, control bytes, bytes above
/// 0x7f, and dot segments with parameters (`/..;x/`, also with `%3B`), which some backends resolve.
pub fn normalize(path: &[u8], out: &mut Vec<u8>) -> Result<Normal, Refused> {
    if path == b"*" {
        return Ok(Normal::Same);
    }
    if path.first() != Some(&b'/') {
        return Err(BAD);
    }
    if is_plain(path)? {
        return Ok(Normal::Same);
    }
    out.clear();
    decode(path, out)?;
    resolve(out)?;
    Ok(if out == path { Normal::Same } else { Normal::Changed })
}

/// Nothing to decode, to join or to resolve. One look at each byte: this is what nearly every request needs.
fn is_plain(path: &[u8]) -> Result<bool, Refused> {
    let (mut plain, mut after_slash) = (true, false);
    for &b in path {
        match b {
            b'/' | b'.' if after_slash => plain = false,
            b'%' => plain = false,
            b'\\' | b'#' | b'?' => return Err(BAD),
            0x21..=0x7e => {}
            _ => return Err(BAD),
        }
        after_slash = b == b'/';
    }
    Ok(plain)
}

fn decode(path: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut i = 0;
    while i < path.len() {
        if path[i] != b'%' {
            out.push(path[i]);
            i += 1;
            continue;
        }
        let digit = |at: usize| path.get(at).and_then(|b| (*b as char).to_digit(16)).ok_or(BAD);
        let byte = (digit(i + 1)? * 16 + digit(i + 2)?) as u8;
        match byte {
            b'/' | b'\\' | 0 => return Err(BAD),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(byte),
            _ => out.extend([b'%', path[i + 1].to_ascii_uppercase(), path[i + 2].to_ascii_uppercase()]),
        }
        i += 3;
    }
    Ok(())
}

/// Resolves dot segments and empty segments in place (RFC 3986 section 5.2.4); `/..` at the root stays the root.
fn resolve(path: &mut Vec<u8>) -> Result<(), Refused> {
    let (mut read, mut write) = (1, 1);
    while read < path.len() {
        let end = memchr::memchr(b'/', &path[read..]).map_or(path.len(), |i| read + i);
        let next = (end + 1).min(path.len() + 1);
        match &path[read..end] {
            b"" | b"." => {}
            b".." => write = path[..write - 1].iter().rposition(|&b| b == b'/').map_or(1, |i| i + 1),
            segment if is_dot_with_parameters(segment) => return Err(BAD),
            _ => {
                let stop = next.min(path.len());
                path.copy_within(read..stop, write);
                write += stop - read;
            }
        }
        read = next;
    }
    path.truncate(write);
    Ok(())
}

fn is_dot_with_parameters(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
    rest.is_some_and(|r| r.starts_with(b";") || r.starts_with(b"%3B"))
}

/// Whether a path in normal form has parameters, and so a second reading (see `without_parameters`).
pub fn has_parameters(path: &[u8]) -> bool {
    memchr::memchr(b';', path).is_some() || memchr::memmem::find(path, b"%3B").is_some()
}

/// The path as a backend reads it that drops `;x=y` from each segment; in normal form.
pub fn without_parameters(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for segment in path.split_inclusive(|&b| b == b'/') {
        let (body, slash) = match segment.split_last() {
            Some((b'/', body)) => (body, true),
            _ => (segment, false),
        };
        let plain = memchr::memchr(b';', body).unwrap_or(body.len());
        let encoded = memchr::memmem::find(body, b"%3B").unwrap_or(body.len());
        out.extend_from_slice(&body[..plain.min(encoded)]);
        if slash && (out.last() != Some(&b'/')) {
            out.push(b'/');
        }
    }
}
