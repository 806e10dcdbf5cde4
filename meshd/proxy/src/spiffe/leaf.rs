//! What the mesh reads from a leaf certificate (RFC 5280, and X509-SVID of the SPIFFE standards).

use super::der::{BOOLEAN, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, time};
use super::{MAX_URI, Refusal, Spiffe};
use crate::config::parse::hex;

/// How the leaf is used: the extended key usage that it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The peer is a TLS client.
    Client,
    /// The peer is a TLS server.
    Server,
}

/// What a verified chain's leaf says. The chain itself is verified by webpki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub spiffe: Spiffe,
    /// Lower hex without leading zeros, as in `revocations/`.
    pub serial: Box<str>,
    /// Unix milliseconds.
    pub not_before_ms: u64,
    pub not_after_ms: u64,
}

// Content bytes of object identifiers (RFC 5280 section 4.2.1).
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// `uniformResourceIdentifier` of a GeneralName.
const URI_NAME: u8 = 0x86;
/// `extensions [3]` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;

/// Reads a leaf: exactly one URI SAN which is an identity, not a CA, the extended key usage present and right.
pub fn read_leaf(der: &[u8], usage: Usage) -> Result<Leaf, Refusal> {
    let mut outer = Reader(der);
    let mut certificate = Reader(outer.expect(SEQUENCE)?);
    outer.end()?;
    let mut tbs = Reader(certificate.expect(SEQUENCE)?);
    tbs.optional(0xa0)?; // version
    let serial = tbs.expect(INTEGER)?;
    tbs.expect(SEQUENCE)?; // signature algorithm
    tbs.expect(SEQUENCE)?; // issuer
    let mut validity = Reader(tbs.expect(SEQUENCE)?);
    let (tag, text) = validity.next()?;
    let not_before_ms = time(tag, text)?;
    let (tag, text) = validity.next()?;
    let not_after_ms = time(tag, text)?;
    tbs.expect(SEQUENCE)?; // subject
    tbs.expect(SEQUENCE)?; // public key
    let mut found = Found::default();
    while !tbs.is_empty() {
        let (tag, content) = tbs.next()?;
        if tag == EXTENSIONS {
            found.read(content)?;
        }
    }
    let uri = found.uri.ok_or(Refusal("certificate without a URI name"))?;
    if !found.usages.ok_or(Refusal("certificate without an extended key usage"))?.contains(usage) {
        return Err(Refusal("certificate for another key usage"));
    }
    Ok(Leaf { spiffe: Spiffe::parse(uri)?, serial: serial_text(serial), not_before_ms, not_after_ms })
}

fn serial_text(bytes: &[u8]) -> Box<str> {
    hex(bytes).trim_start_matches('0').into()
}

#[derive(Debug, Clone, Copy, Default)]
struct Usages {
    server: bool,
    client: bool,
}

impl Usages {
    fn contains(self, usage: Usage) -> bool {
        match usage {
            Usage::Client => self.client,
            Usage::Server => self.server,
        }
    }
}

#[derive(Debug, Default)]
struct Found<'a> {
    uri: Option<&'a str>,
    names_seen: bool,
    constraints_seen: bool,
    usages: Option<Usages>,
}

impl<'a> Found<'a> {
    fn read(&mut self, extensions: &'a [u8]) -> Result<(), Refusal> {
        let mut outer = Reader(extensions);
        let mut list = Reader(outer.expect(SEQUENCE)?);
        outer.end()?;
        while !list.is_empty() {
            let mut extension = Reader(list.expect(SEQUENCE)?);
            let oid = extension.expect(OID)?;
            extension.optional(BOOLEAN)?; // critical: what webpki does not know it refuses
            let value = extension.expect(OCTET_STRING)?;
            extension.end()?;
            match oid {
                SUBJECT_ALT_NAME => self.names(value)?,
                BASIC_CONSTRAINTS => self.constraints(value)?,
                EXTENDED_KEY_USAGE => self.extended_usage(value)?,
                KEY_USAGE => key_usage(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.names_seen, true) {
            return Err(Refusal("certificate with two lists of names"));
        }
        let mut outer = Reader(value);
        let mut names = Reader(outer.expect(SEQUENCE)?);
        outer.end()?;
        while !names.is_empty() {
            let (tag, content) = names.next()?;
            if tag != URI_NAME {
                continue;
            }
            if self.uri.is_some() {
                return Err(Refusal("certificate with several URI names"));
            }
            let visible = content.iter().all(u8::is_ascii_graphic);
            if content.len() > MAX_URI || !visible {
                return Err(Refusal("URI name too long or not plain ASCII"));
            }
            self.uri = std::str::from_utf8(content).ok();
        }
        Ok(())
    }

    /// `cA` must be false: present means true in DER, where a default is left out.
    fn constraints(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.constraints_seen, true) {
            return Err(Refusal("certificate with two basic constraints"));
        }
        let mut outer = Reader(value);
        let mut constraints = Reader(outer.expect(SEQUENCE)?);
        outer.end()?;
        if constraints.optional(BOOLEAN)?.is_some_and(|ca| ca != [0]) {
            return Err(Refusal("a CA's certificate as a leaf"));
        }
        Ok(())
    }

    fn extended_usage(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.usages.is_some() {
            return Err(Refusal("certificate with two extended key usages"));
        }
        let mut outer = Reader(value);
        let mut list = Reader(outer.expect(SEQUENCE)?);
        outer.end()?;
        let mut usages = Usages::default();
        while !list.is_empty() {
            match list.expect(OID)? {
                SERVER_AUTH => usages.server = true,
                CLIENT_AUTH => usages.client = true,
                _ => {}
            }
        }
        self.usages = Some(usages);
        Ok(())
    }
}

/// A leaf may not sign certificates or revocation lists (X509-SVID section 4.3).
fn key_usage(value: &[u8]) -> Result<(), Refusal> {
    const BIT_STRING: u8 = 0x03;
    let bits = Reader(value).expect(BIT_STRING)?;
    // First the count of unused bits; bit 5 is keyCertSign, bit 6 cRLSign, from the left.
    if bits.get(1).is_some_and(|first| first & 0b0000_0110 != 0) {
        return Err(Refusal("a leaf that may sign certificates"));
    }
    Ok(())
}
