//! One canonical form of Host for routing, policy and telemetry.

use super::Refused;

/// Appends the canonical form of a Host that was checked: lower case, without the dot at the end of a full name and
/// without port 80.
pub fn canonical(value: &[u8], out: &mut Vec<u8>) {
    let (name, port) = split(value);
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    if let Some(port) = port.filter(|p| *p != 80) {
        out.push(b':');
        crate::error::push_number(out, u64::from(port));
    }
}

/// Whether two checked hosts have one canonical form.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, a_port) = split(a);
    let (b, b_port) = split(b);
    a.eq_ignore_ascii_case(b) && a_port.unwrap_or(80) == b_port.unwrap_or(80)
}

/// `name`, `name:port`, `[v6]`, `[v6]:port`: letters, digits, `.`, `-`, `_`, `~`. No user, no percent, not empty.
pub fn check(value: &[u8]) -> Result<(), Refused> {
    let bad = Refused::new(400, "bad Host");
    let (name, port) = raw_split(value);
    if port.is_some_and(|p| p.len() > 5 || !p.iter().all(u8::is_ascii_digit) || number(p) > 65_535) {
        return Err(bad);
    }
    let good = match name {
        [b'[', inner @ .., b']'] => {
            std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        b"" => false,
        // One dot may end a full name; an empty label elsewhere is read differently by different resolvers.
        [b'.', ..] => false,
        _ => {
            let known = |b: &u8| b.is_ascii_alphanumeric() || b".-_~".contains(b);
            name.len() <= 255 && name.iter().all(known) && !name.windows(2).any(|two| two == b"..")
        }
    };
    if good { Ok(()) } else { Err(bad) }
}

fn raw_split(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = memchr::memchr(b']', value).unwrap_or(0);
    match memchr::memchr(b':', &value[from..]) {
        Some(i) => (&value[..from + i], Some(&value[from + i + 1..])),
        None => (value, None),
    }
}

/// Name without the dot at its end, and the port (an empty one is none).
fn split(value: &[u8]) -> (&[u8], Option<u32>) {
    let (name, port) = raw_split(value);
    (name.strip_suffix(b".").unwrap_or(name), port.filter(|p| !p.is_empty()).map(number))
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().take(6).fold(0, |sum, b| sum * 10 + u32::from(b.wrapping_sub(b'0')))
}
