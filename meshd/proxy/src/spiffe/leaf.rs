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
/// `uniformResourceIdentifier` and `dNSName` of a GeneralName.
const URI_NAME: u8 = 0x86;
const DNS_NAME: u8 = 0x82;
/// `AlgorithmIdentifier` of an ECDSA P-256 key (RFC 5480 section 2.1.1): id-ecPublicKey, secp256r1.
const P256: &[u8] =
    &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `extensions [3]` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;

/// Reads a leaf: exactly one URI SAN which is an identity and no other name (a role: its DNS name), a P-256 key that
/// signs but signs no certificates, not a CA, both extended key usages. `registry/ca/svid.py` is its twin: what one
/// refuses the other must not believe.
pub fn read_leaf(der: &[u8]) -> Result<Leaf, Refusal> {
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
    let mut public_key = Reader(tbs.expect(SEQUENCE)?);
    if public_key.expect(SEQUENCE)? != P256 {
        return Err(Refusal("the key is not ECDSA P-256"));
    }
    let mut found = Found::default();
    while !tbs.is_empty() {
        let (tag, content) = tbs.next()?;
        if tag == EXTENSIONS {
            found.read(content)?;
        }
    }
    let spiffe = found.identity()?;
    Ok(Leaf { spiffe, serial: serial_text(serial), not_before_ms, not_after_ms })
}

fn serial_text(bytes: &[u8]) -> Box<str> {
    hex(bytes).trim_start_matches('0').into()
}

#[derive(Debug, Default)]
struct Found<'a> {
    uri: Option<&'a str>,
    /// Names that are no URI: how many, and the last DNS name.
    others: usize,
    dns: &'a [u8],
    names_seen: bool,
    constraints_seen: bool,
    signs: Option<bool>,
    /// Extended key usages: as server, as client.
    purposes: Option<(bool, bool)>,
}

impl<'a> Found<'a> {
    /// All that must be there is there; whose it is.
    fn identity(&self) -> Result<Spiffe, Refusal> {
        let spiffe = Spiffe::parse(self.uri.ok_or(Refusal("certificate without a URI name"))?)?;
        if !self.constraints_seen || self.signs != Some(true) {
            return Err(Refusal("certificate without basic constraints or without the usage digitalSignature"));
        }
        if self.purposes != Some((true, true)) {
            return Err(Refusal("the extended key usage must hold both clientAuth and serverAuth"));
        }
        let is_peer = self.dns.strip_prefix(b"peer.") == Some(spiffe.trust_domain().as_bytes());
        match (spiffe.role(), self.others) {
            (None, 0) => Ok(spiffe),
            (Some(_), 1) if is_peer => Ok(spiffe),
            _ => Err(Refusal("certificate with a name that its identity does not have")),
        }
    }

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
                KEY_USAGE if self.signs.is_some() => return Err(Refusal("certificate with two key usages")),
                KEY_USAGE => self.signs = Some(key_usage(value)?),
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
                self.others += 1;
                if tag == DNS_NAME {
                    self.dns = content;
                }
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
        if self.purposes.is_some() {
            return Err(Refusal("certificate with two extended key usages"));
        }
        let mut outer = Reader(value);
        let mut list = Reader(outer.expect(SEQUENCE)?);
        outer.end()?;
        let (mut server, mut client) = (false, false);
        while !list.is_empty() {
            match list.expect(OID)? {
                SERVER_AUTH => server = true,
                CLIENT_AUTH => client = true,
                _ => {}
            }
        }
        self.purposes = Some((server, client));
        Ok(())
    }
}

/// A leaf signs handshakes, but no certificates and no revocation lists (X509-SVID section 4.3). Returns the former.
fn key_usage(value: &[u8]) -> Result<bool, Refusal> {
    const BIT_STRING: u8 = 0x03;
    let bits = Reader(value).expect(BIT_STRING)?;
    // First the count of unused bits; from the left: bit 0 is digitalSignature, 5 keyCertSign, 6 cRLSign.
    let first = bits.get(1).copied().unwrap_or(0);
    if first & 0b0000_0110 != 0 {
        return Err(Refusal("a leaf that may sign certificates"));
    }
    Ok(first & 0b1000_0000 != 0)
}
