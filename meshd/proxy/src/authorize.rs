//! Who may call: permissions at connect (layer 4) and per request (layer 7).

use crate::config::{Action, Protocol};
use crate::http1::path::{has_parameters, without_parameters};
use crate::route::matching::RequestView;
use crate::spiffe::Spiffe;
use crate::tables::{Permission, Permissions, Source};

#[cfg(test)]
mod tests;

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
    let source = match find(permissions, caller) {
        Ok(source) => source,
        Err(verdict) => return Connect::Decided(verdict),
    };
    match (source.action, protocol) {
        (Some(action), _) => Connect::Decided(verdict(action, &source.origin)),
        (None, Protocol::Http) => Connect::PerRequest,
        (None, Protocol::Tcp) => Connect::Decided(verdict(Action::Deny, &source.origin)),
    }
}

/// Layer 7 (covers layer 4): the decision of one request.
pub fn request<'t>(permissions: &'t Permissions, caller: Caller<'_>, view: &RequestView<'_>) -> Verdict<'t> {
    let source = match find(permissions, caller) {
        Ok(source) => source,
        Err(verdict) => return verdict,
    };
    if let Some(action) = source.action {
        return verdict(action, &source.origin);
    }
    match source.permissions.iter().find(|p| applies(p, view)) {
        Some(permission) => verdict(permission.action, &permission.origin),
        None => fallback(permissions),
    }
}

fn verdict(action: Action, origin: &str) -> Verdict<'_> {
    Verdict { allowed: action == Action::Allow, origin }
}

fn fallback(permissions: &Permissions) -> Verdict<'_> {
    verdict(permissions.fallback, &permissions.fallback_origin)
}

/// The first source that fits, or the decision without one.
fn find<'t>(permissions: &'t Permissions, caller: Caller<'_>) -> Result<&'t Source, Verdict<'t>> {
    let Caller::Peer { service } = caller else {
        return Err(anonymous(permissions));
    };
    let fits = |s: &&Source| *s.name == *"*" || service.is_some_and(|name| *s.name == *name);
    permissions.sources.iter().find(fits).ok_or_else(|| fallback(permissions))
}

/// Who cannot be named may be anybody that a rule denies: only a fallback that allows, beside rules that all allow,
/// lets such a peer in (ISTIO-SECURITY-2021-004).
fn anonymous(permissions: &Permissions) -> Verdict<'_> {
    match permissions.sources.iter().find(|s| s.action != Some(Action::Allow)) {
        Some(source) => verdict(Action::Deny, &source.origin),
        None => fallback(permissions),
    }
}

/// Whether a permission decides the request. What is not sure counts against the caller. A path with parameters is
/// read both ways, as sent and without them, because backends differ: denied if either is, allowed only if both are.
fn applies(permission: &Permission, view: &RequestView<'_>) -> bool {
    let Some(matcher) = &permission.matcher else { return true };
    let denies = permission.action == Action::Deny;
    let as_sent = matcher.matches_strictly(view).unwrap_or(denies);
    if !has_parameters(view.path) {
        return as_sent;
    }
    let mut bare = Vec::new();
    without_parameters(view.path, &mut bare);
    let stripped = matcher.matches_strictly(&RequestView { path: &bare, ..*view }).unwrap_or(denies);
    if denies { as_sent || stripped } else { as_sent && stripped }
}
