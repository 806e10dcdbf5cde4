//! A small reader of DER (X.690): definite lengths in their shortest form, no recursion, no panic.

use super::Refusal;

pub const SEQUENCE: u8 = 0x30;
pub const INTEGER: u8 = 0x02;
pub const BOOLEAN: u8 = 0x01;
pub const OCTET_STRING: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;

const BAD: Refusal = Refusal("malformed certificate");

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Tag and content of the next value.
    pub fn next(&mut self) -> Result<(u8, &'a [u8]), Refusal> {
        let [tag, first, rest @ ..] = self.0 else { return Err(BAD) };
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let digits = rest.get(..count).ok_or(BAD)?;
                let length = digits.iter().fold(0usize, |sum, b| (sum << 8) | usize::from(*b));
                if length < 0x80 || digits[0] == 0 {
                    return Err(BAD);
                }
                (length, &rest[count..])
            }
            _ => return Err(BAD),
        };
        let content = rest.get(..length).ok_or(BAD)?;
        self.0 = &rest[length..];
        Ok((*tag, content))
    }

    /// The next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Refusal> {
        match self.next()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(BAD),
        }
    }

    /// The next value if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Refusal> {
        if self.0.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(BAD) }
    }
}

/// Unix milliseconds of a `Time` (RFC 5280 section 4.1.2.5): `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`. Before 1970: 0.
pub fn time(tag: u8, text: &[u8]) -> Result<u64, Refusal> {
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 13) => {
            let two = digits(&text[..2])?;
            (if two < 50 { 2000 + two } else { 1900 + two }, &text[2..])
        }
        (GENERALIZED_TIME, 15) => (digits(&text[..4])?, &text[4..]),
        _ => return Err(BAD),
    };
    if rest[10] != b'Z' {
        return Err(BAD);
    }
    let (month, day) = (digits(&rest[..2])?, digits(&rest[2..4])?);
    let (hour, minute, second) = (digits(&rest[4..6])?, digits(&rest[6..8])?, digits(&rest[8..10])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return Err(BAD);
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Ok(u64::try_from(seconds).unwrap_or(0) * 1_000)
}

fn digits(text: &[u8]) -> Result<i64, Refusal> {
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    Ok(text.iter().fold(0, |sum, b| sum * 10 + i64::from(b - b'0')))
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
