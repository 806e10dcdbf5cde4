//! What the mesh reads from a leaf certificate.
use super::{Refusal, Spiffe};

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

/// Reads a leaf: exactly one URI SAN which is an identity, not a CA, the extended key usage present and right.
pub fn read_leaf(der: &[u8], usage: Usage) -> Result<Leaf, Refusal> {
    let _ = (der, usage);
    Err(Refusal("not implemented"))
}
