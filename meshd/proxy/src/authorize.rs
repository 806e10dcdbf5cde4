//! Who may call: permissions at connect (layer 4) and per request (layer 7).

use crate::config::Protocol;
use crate::route::matching::RequestView;
use crate::spiffe::Spiffe;
use crate::tables::Permissions;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller<'a> {
    /// No identity, or one of a foreign trust domain: matches nothing, not even `*`.
    Anonymous,
    /// Verified. `service`: `None` for a node or a role.
    Peer { service: Option<&'a str> },
}

impl<'a> Caller<'a> {
    /// A verified identity; a foreign trust domain is anonymous.
    pub fn of(spiffe: &'a Spiffe, trust_domain: &str) -> Caller<'a> {
        if trust_domain.is_empty() || spiffe.trust_domain() != trust_domain {
            return Caller::Anonymous;
        }
        Caller::Peer { service: spiffe.service() }
    }

    /// A local instance of a service, called in-process.
    pub fn local(service: &'a str) -> Caller<'a> {
        Caller::Peer { service: Some(service) }
    }
}

/// A decision and the rule that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'t> {
    pub allowed: bool,
    pub origin: &'t str,
}

/// What is known when a connection opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect<'t> {
    Decided(Verdict<'t>),
    /// Each request is decided on its own.
    PerRequest,
}

/// Layer 4. A source with layer-7 permissions on a TCP service is denied: they cannot be checked there.
pub fn at_connect<'t>(permissions: &'t Permissions, caller: Caller<'_>, protocol: Protocol) -> Connect<'t> {
    let _ = (caller, protocol);
    Connect::Decided(Verdict { allowed: false, origin: &permissions.fallback_origin })
}

/// Layer 7 (covers layer 4): the decision of one request.
pub fn request<'t>(permissions: &'t Permissions, caller: Caller<'_>, view: &RequestView<'_>) -> Verdict<'t> {
    let _ = (caller, view);
    Verdict { allowed: false, origin: &permissions.fallback_origin }
}
