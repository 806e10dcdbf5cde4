//! SPIFFE identities: strict names, and reading the one URI SAN of a leaf certificate.
//!
//! Names: `spiffe://<trust domain>/svc/<service>/n/<node>/i/<id>`, `.../node/<node>`, `.../role/<role>/<node>`.
//! Source: <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>, stricter: lower-case trust domain,
//! our alphabet in every segment, nothing else in the URI.

mod der;
mod leaf;
#[cfg(test)]
pub(crate) mod tests;

pub use leaf::{Leaf, Usage, read_leaf};

/// Longest identity that SPIFFE allows, in bytes.
pub const MAX_URI: usize = 2048;

/// Why an identity or a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub &'static str);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refusal {}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Service { service: Box<str>, node: Box<str>, id: Box<str> },
    Node { node: Box<str> },
    Role { role: Box<str>, node: Box<str> },
}

/// A valid identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spiffe {
    uri: Box<str>,
    trust_domain: Box<str>,
    kind: Kind,
}

impl Spiffe {
    /// Reads a URI, byte by byte: nothing is decoded or normalised.
    pub fn parse(uri: &str) -> Result<Spiffe, Refusal> {
        if uri.len() > MAX_URI {
            return Err(Refusal("identity longer than 2048 bytes"));
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(Refusal("not a spiffe:// identity"))?;
        let (trust_domain, path) = rest.split_once('/').ok_or(Refusal("identity without a path"))?;
        check_trust_domain(trust_domain)?;
        let segments: Vec<&str> = path.split('/').collect();
        for segment in &segments {
            check_segment(segment)?;
        }
        let kind = match segments.as_slice() {
            ["svc", service, "n", node, "i", id] => {
                Kind::Service { service: (*service).into(), node: (*node).into(), id: (*id).into() }
            }
            ["node", node] => Kind::Node { node: (*node).into() },
            ["role", role, node] => Kind::Role { role: (*role).into(), node: (*node).into() },
            _ => return Err(Refusal("identity is neither a service instance, a node nor a role")),
        };
        Ok(Spiffe { uri: uri.into(), trust_domain: trust_domain.into(), kind })
    }

    pub fn as_str(&self) -> &str {
        &self.uri
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The service, when this is a service instance.
    pub fn service(&self) -> Option<&str> {
        match &self.kind {
            Kind::Service { service, .. } => Some(service),
            _ => None,
        }
    }

    pub fn node(&self) -> &str {
        match &self.kind {
            Kind::Service { node, .. } | Kind::Node { node } | Kind::Role { node, .. } => node,
        }
    }

    /// The instance's id, when this is a service instance.
    pub fn id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Service { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The role, when this is a role.
    pub fn role(&self) -> Option<&str> {
        match &self.kind {
            Kind::Role { role, .. } => Some(role),
            _ => None,
        }
    }

    /// Whether this is `<service>/<node>/<id>`.
    pub fn is_instance(&self, name: &str) -> bool {
        let Kind::Service { service, node, id } = &self.kind else { return false };
        name.split('/').eq([service.as_ref(), node.as_ref(), id.as_ref()])
    }
}

/// Lower-case letters, digits, `.`, `-`, `_`; at most 255 bytes.
fn check_trust_domain(name: &str) -> Result<(), Refusal> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(good) {
        return Err(Refusal("bad trust domain"));
    }
    Ok(())
}

/// `[A-Za-z0-9._-]+`, but neither `.` nor `..`.
fn check_segment(segment: &str) -> Result<(), Refusal> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if segment.is_empty() || !segment.bytes().all(good) || segment == "." || segment == ".." {
        return Err(Refusal("bad segment in the identity's path"));
    }
    Ok(())
}
