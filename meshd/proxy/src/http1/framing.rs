//! Where a message body ends (RFC 9112 sections 6 and 7), and a strict scanner of chunked bodies.

/// Longest chunk extension, and longest trailer section, in bytes.
const MAX_EXTENSION: u16 = 256;
const MAX_TRAILERS: u32 = 8 * 1024;
/// 15 hex digits stay below 2^60: sums cannot overflow.
const MAX_SIZE_DIGITS: u8 = 15;

/// The rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// Until the sender closes (responses only).
    UntilClose,
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// Bytes of the input that belong to this body.
    pub used: usize,
    /// The body is complete; the next byte starts another message.
    pub done: bool,
}

/// The body's framing is broken: what was read cannot be forwarded any further, both connections close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody(pub &'static str);

impl Framing {
    pub fn chunked() -> Framing {
        Framing::Chunked(Chunked::START)
    }

    pub fn length(n: u64) -> Framing {
        if n == 0 { Framing::None } else { Framing::Length(n) }
    }

    /// Nothing of the body is left.
    pub fn is_done(self) -> bool {
        matches!(self, Framing::None | Framing::Chunked(Chunked { at: At::End, .. }))
    }

    /// Whether the body is encoded in chunks.
    pub fn is_chunked(self) -> bool {
        matches!(self, Framing::Chunked(_))
    }

    /// Says how many of the bytes belong to this body, and whether it ends there. Bytes are forwarded as they are.
    #[inline]
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Advance, BadBody> {
        self.decode(bytes, |_| ())
    }

    /// As `advance`, and hands out the payload without chunk sizes and trailers.
    #[inline]
    pub fn decode(&mut self, bytes: &[u8], mut payload: impl FnMut(&[u8])) -> Result<Advance, BadBody> {
        match self {
            Framing::None => Ok(Advance { used: 0, done: true }),
            Framing::UntilClose => {
                payload(bytes);
                Ok(Advance { used: bytes.len(), done: false })
            }
            Framing::Length(left) => {
                let used = (*left).min(bytes.len() as u64);
                payload(&bytes[..used as usize]);
                *self = Framing::length(*left - used);
                Ok(Advance { used: used as usize, done: self.is_done() })
            }
            Framing::Chunked(chunked) => chunked.decode(bytes, payload),
        }
    }
}

/// State of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Chunk size, or what is left of the chunk.
    size: u64,
    /// Bytes of trailers so far.
    trailers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size {
        digits: u8,
    },
    /// After `;`: `first` demands a token.
    Extension {
        length: u16,
        first: bool,
        quoted: bool,
    },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    /// Hash of the name so far, and its length.
    TrailerName {
        hash: u32,
        length: u16,
    },
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Chunked {
    const START: Chunked = Chunked { at: At::Size { digits: 0 }, size: 0, trailers: 0 };

    fn decode(&mut self, bytes: &[u8], mut payload: impl FnMut(&[u8])) -> Result<Advance, BadBody> {
        let mut i = 0;
        while i < bytes.len() && self.at != At::End {
            if self.at == At::Data {
                let n = self.size.min((bytes.len() - i) as u64);
                payload(&bytes[i..i + n as usize]);
                self.size -= n;
                i += n as usize;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.at = self.step(bytes[i])?;
            i += 1;
        }
        Ok(Advance { used: i, done: self.at == At::End })
    }

    /// One byte that is not payload.
    fn step(&mut self, b: u8) -> Result<At, BadBody> {
        match self.at {
            At::Size { digits } => self.size_digit(b, digits),
            At::Extension { length, first, quoted } => extension(b, length, first, quoted),
            At::SizeLf if b == b'\n' => Ok(if self.size == 0 { At::TrailerStart } else { At::Data }),
            At::DataCr if b == b'\r' => Ok(At::DataLf),
            At::DataLf if b == b'\n' => {
                self.size = 0;
                Ok(At::Size { digits: 0 })
            }
            At::EndLf if b == b'\n' => Ok(At::End),
            At::TrailerStart | At::TrailerName { .. } | At::TrailerValue | At::TrailerLf => self.trailer(b),
            _ => Err(BadBody("chunk not ended by CRLF")),
        }
    }

    fn size_digit(&mut self, b: u8, digits: u8) -> Result<At, BadBody> {
        match (b as char).to_digit(16) {
            Some(_) if digits == MAX_SIZE_DIGITS => Err(BadBody("chunk size too long")),
            Some(x) => {
                self.size = self.size * 16 + u64::from(x);
                Ok(At::Size { digits: digits + 1 })
            }
            None if digits == 0 => Err(BadBody("chunk without a size")),
            None if b == b'\r' => Ok(At::SizeLf),
            None if b == b';' => Ok(At::Extension { length: 0, first: true, quoted: false }),
            None => Err(BadBody("bad chunk size")),
        }
    }

    fn trailer(&mut self, b: u8) -> Result<At, BadBody> {
        self.trailers += 1;
        if self.trailers > MAX_TRAILERS {
            return Err(BadBody("trailers too long"));
        }
        match self.at {
            At::TrailerStart if b == b'\r' => Ok(At::EndLf),
            At::TrailerStart if is_token(b) => Ok(At::TrailerName { hash: hash_step(HASH_START, b), length: 1 }),
            At::TrailerName { hash, length } if is_token(b) => {
                let (hash, length) = (hash_step(hash, b), length.saturating_add(1));
                if INTERNAL_PREFIX == (hash, length) {
                    return Err(BadBody("forbidden trailer"));
                }
                Ok(At::TrailerName { hash, length })
            }
            At::TrailerName { hash, .. } if b == b':' => {
                if FORBIDDEN.contains(&hash) {
                    Err(BadBody("forbidden trailer"))
                } else {
                    Ok(At::TrailerValue)
                }
            }
            At::TrailerValue if b == b'\r' => Ok(At::TrailerLf),
            At::TrailerValue if b == b'\t' || (b >= b' ' && b != 0x7f) => Ok(At::TrailerValue),
            At::TrailerLf if b == b'\n' => Ok(At::TrailerStart),
            _ => Err(BadBody("bad trailer")),
        }
    }
}

/// `;name`, `;name=token`, `;name="text"`: no white space, no control bytes (a receiver may end a line there).
fn extension(b: u8, length: u16, first: bool, quoted: bool) -> Result<At, BadBody> {
    if length >= MAX_EXTENSION {
        return Err(BadBody("chunk extension too long"));
    }
    let next = |first, quoted| Ok(At::Extension { length: length + 1, first, quoted });
    match b {
        b'"' if !first => next(false, !quoted),
        b'\\' => Err(BadBody("bad chunk extension")),
        _ if quoted && (b' '..0x7f).contains(&b) => next(false, true),
        b'\r' if !first && !quoted => Ok(At::SizeLf),
        b';' if !first && !quoted => next(true, false),
        b'=' if !first && !quoted => next(false, false),
        _ if is_token(b) && !quoted => next(false, false),
        _ => Err(BadBody("bad chunk extension")),
    }
}

/// `tchar` of RFC 9110.
pub(crate) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

const HASH_START: u32 = 0x811c_9dc5;

/// FNV-1a over lower-case bytes with `_` read as `-`: a name is compared as any receiver may read it.
const fn hash_step(hash: u32, b: u8) -> u32 {
    let b = if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    (hash ^ b as u32).wrapping_mul(0x0100_0193)
}

const fn hash_name(name: &str) -> u32 {
    let (bytes, mut hash, mut i) = (name.as_bytes(), HASH_START, 0);
    while i < bytes.len() {
        hash = hash_step(hash, bytes[i]);
        i += 1;
    }
    hash
}

/// Our internal headers begin so.
const INTERNAL_PREFIX: (u32, u16) = (hash_name("x-meshd-"), 8);

/// Fields that frame, route, authenticate or identify have no business after the body (RFC 9110 section 6.5.1).
/// An innocent name with the same hash is refused too, which costs that message and nothing else.
const FORBIDDEN: [u32; 30] = [
    hash_name("transfer-encoding"),
    hash_name("content-length"),
    hash_name("host"),
    hash_name("connection"),
    hash_name("te"),
    hash_name("trailer"),
    hash_name("upgrade"),
    hash_name("keep-alive"),
    hash_name("proxy-connection"),
    hash_name("proxy-authenticate"),
    hash_name("proxy-authorization"),
    hash_name("authorization"),
    hash_name("www-authenticate"),
    hash_name("cookie"),
    hash_name("set-cookie"),
    hash_name("content-encoding"),
    hash_name("content-type"),
    hash_name("content-range"),
    hash_name("cache-control"),
    hash_name("expect"),
    hash_name("max-forwards"),
    hash_name("range"),
    hash_name("location"),
    hash_name("traceparent"),
    hash_name("tracestate"),
    hash_name("forwarded"),
    hash_name("x-forwarded-for"),
    hash_name("x-forwarded-host"),
    hash_name("x-forwarded-proto"),
    hash_name("x-forwarded-client-cert"),
];
