//! The tables: every resource compiled once into one immutable value, swapped whole.
//!
//! Shared as `Arc<Tables>`; each thread takes its own clone once per swap, and a request borrows. The next tables share
//! with those before them every service, identity and instance that did not change, so a change costs what it
//! touches. A service's number holds for all tables of one `numbering`; an endpoint's and an instance's only inside the
//! tables that it came from. Lookups allocate nothing.

mod build;
mod change;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::config::{self, Action, Protocol, State, Upstream};
use crate::headers::edit::Edits;
use crate::route::matching::Matcher;
use crate::spiffe::Spiffe;

pub use crate::config::parse::Invalid as Rejection;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index! {
    /// A service named by any resource.
    ServiceId,
    /// A local instance that the inbound port serves.
    InboundId
}

/// An endpoint: its place among those of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId {
    pub service: ServiceId,
    pub index: u32,
}

/// Everything a request needs, compiled. A clone shares it all.
#[derive(Debug, Default, Clone)]
pub struct Tables {
    /// By `ServiceId`.
    pub services: Vec<Arc<Service>>,
    /// By name, as are listeners and identities.
    pub inbounds: Arc<Vec<Arc<Inbound>>>,
    pub listeners: Arc<Vec<Listener>>,
    pub identities: Arc<Vec<Arc<Identity>>>,
    pub trust: Option<Arc<Trust>>,
    pub settings: Option<Arc<config::Settings>>,
    service_by_name: Arc<HashMap<Box<str>, ServiceId>>,
    numbering: Arc<()>,
    /// Services named when they were numbered.
    named: usize,
}

/// A service as a destination (and as a caller's name).
#[derive(Debug, Clone)]
pub struct Service {
    pub name: Arc<str>,
    /// Some `service`, `endpoint`, `routes` or `inbound` resource speaks of it; false: only its name occurs.
    pub known: bool,
    /// Some endpoint of it is meshed: plaintext to it is never chosen.
    pub meshed: bool,
    pub protocol: Protocol,
    pub upstream: Upstream,
    /// Overrides by calling service.
    pub callers: Vec<(ServiceId, Upstream)>,
    /// All endpoints in any state, by name.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Of each of them what decides whether it may be chosen: side by side, to be read by the thousand.
    pub standings: Vec<Standing>,
    /// How many of them the registry has lost.
    pub suspects: usize,
    /// Some instance of it runs on this host.
    pub hosted: bool,
    /// Names of parts of it; also those that no endpoint carries any more.
    pub subsets: Vec<Box<str>>,
    pub routes: Arc<Routes>,
}

impl Service {
    /// How `caller` treats this destination.
    pub fn upstream_for(&self, caller: Option<ServiceId>) -> &Upstream {
        let own = caller.and_then(|c| self.callers.iter().find(|(id, _)| *id == c));
        own.map_or(&self.upstream, |(_, upstream)| upstream)
    }
}

#[derive(Debug)]
pub struct Endpoint {
    pub name: Box<str>,
    pub id: Box<str>,
    pub service: ServiceId,
    pub node: Box<str>,
    /// The app itself.
    pub address: SocketAddr,
    /// Its host's mTLS port; `None`: not meshed.
    pub mesh: Option<MeshAddress>,
    pub weight: u32,
    pub state: State,
    /// Indices into its service's subsets.
    pub subsets: Vec<u32>,
}

impl Endpoint {
    /// The same instance at the same place: what is known of the one holds for the other.
    pub fn is_same_place(&self, other: &Endpoint) -> bool {
        let who = |e: &Endpoint| e.mesh.as_ref().map(|m| m.spiffe.clone());
        self.name == other.name && self.reached_at() == other.reached_at() && who(self) == who(other)
    }

    pub fn is_in(&self, subset: Option<u32>) -> bool {
        subset.is_none_or(|s| self.subsets.contains(&s))
    }

    /// Where a caller of another host connects.
    pub fn reached_at(&self) -> SocketAddr {
        self.mesh.as_ref().map_or(self.address, |m| m.inbound)
    }
}

/// Whether and how much an endpoint may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub weight: u32,
    pub state: State,
    pub meshed: bool,
}

/// How a meshed endpoint is reached, and who must answer there.
#[derive(Debug)]
pub struct MeshAddress {
    pub inbound: SocketAddr,
    pub server_name: ServerName<'static>,
    pub spiffe: Spiffe,
}

/// What happens to requests for a service. Services without a `routes` resource have the default rule.
#[derive(Debug, Default)]
pub struct Routes {
    pub rules: Vec<Rule>,
    pub faults: Vec<Fault>,
}

#[derive(Debug)]
pub struct Rule {
    pub origin: Box<str>,
    /// `None` matches everything.
    pub matcher: Option<Matcher>,
    /// Sorted; empty: all callers.
    pub sources: Vec<ServiceId>,
    pub legs: Vec<Leg>,
    pub prefix_rewrite: Option<Box<str>>,
    /// 0: none.
    pub timeout_ms: u64,
    /// 0: only the whole.
    pub per_try_timeout_ms: u64,
    pub retry: Retry,
    pub request_headers: Option<Edits>,
    pub response_headers: Option<Edits>,
}

#[derive(Debug)]
pub struct Leg {
    pub service: ServiceId,
    /// Index into the service's subsets.
    pub subset: Option<u32>,
    pub weight: u32,
    pub broken: Option<Box<str>>,
    pub request_headers: Option<Edits>,
    pub response_headers: Option<Edits>,
    pub origin: Box<str>,
}

/// What a retry rule answers to, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn {
    pub connect_failure: bool,
    pub reset: bool,
    pub peer_503: bool,
    pub server_error: bool,
    pub gateway_error: bool,
    pub retriable_4xx: bool,
}

#[derive(Debug)]
pub struct Retry {
    pub attempts: u32,
    pub on: RetryOn,
    pub status_codes: Vec<u16>,
    pub budget_percent: u32,
    pub budget_min_per_second: u32,
    /// The mesh's own rule: idempotent methods only.
    pub default: bool,
    pub origin: Box<str>,
}

#[derive(Debug)]
pub struct Fault {
    pub origin: Box<str>,
    pub until_ms: u64,
    pub matcher: Option<Matcher>,
    pub sources: Vec<ServiceId>,
    pub header: Option<Box<str>>,
    pub delay: Option<config::Delay>,
    pub abort: Option<config::Abort>,
}

/// A local instance.
#[derive(Debug)]
pub struct Inbound {
    pub name: Box<str>,
    pub service: ServiceId,
    pub app: SocketAddr,
    pub sni: Box<str>,
    pub protocol: Protocol,
    pub permissions: Permissions,
    /// 0: no limit.
    pub max_connections: u32,
    pub connect_timeout_ms: u64,
    /// 0: none of its own.
    pub request_timeout_ms: u64,
}

#[derive(Debug)]
pub struct Permissions {
    pub sources: Vec<Source>,
    pub fallback: Action,
    pub fallback_origin: Box<str>,
}

#[derive(Debug)]
pub struct Source {
    /// A service name, or `*`.
    pub name: Box<str>,
    pub origin: Box<str>,
    pub action: Option<Action>,
    pub permissions: Vec<Permission>,
}

#[derive(Debug)]
pub struct Permission {
    pub action: Action,
    pub origin: Box<str>,
    pub matcher: Option<Matcher>,
}

#[derive(Debug)]
pub struct Listener {
    pub name: Box<str>,
    pub address: SocketAddr,
    pub instance: Box<str>,
    /// The instance's service.
    pub caller: ServiceId,
    pub service: ServiceId,
}

/// Certificate and key of a local instance, read from PEM; the key fits the certificate and the name its SAN.
#[derive(Debug)]
pub struct Identity {
    pub name: Box<str>,
    pub spiffe: Spiffe,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Changes when certificate or key do: a TLS configuration made from it may be kept until then.
    pub digest: Box<str>,
    /// Unix milliseconds.
    pub not_after_ms: u64,
}

#[derive(Debug)]
pub struct Trust {
    pub trust_domain: Box<str>,
    pub roots: Vec<CertificateDer<'static>>,
    /// Digest over trust domain and roots: sessions of another bundle are not resumed.
    pub roots_digest: Box<str>,
    /// Digest over everything here: live peers are verified again when it changes.
    pub digest: Box<str>,
    /// `before_ms` by identity; 0: all.
    revoked_identities: HashMap<Box<str>, u64>,
    revoked_serials: HashSet<Box<str>>,
}

impl Trust {
    /// Whether a certificate is revoked: `serial` lower hex, `not_before_ms` of the certificate. Allocates nothing.
    pub fn is_revoked(&self, spiffe: &str, serial: &str, not_before_ms: u64) -> bool {
        let identity = self.revoked_identities.get(spiffe);
        identity.is_some_and(|&before| before == 0 || not_before_ms < before) || self.revoked_serials.contains(serial)
    }
}

impl Tables {
    /// Many services were named once and are gone: time to number them anew.
    pub fn is_crowded(&self) -> bool {
        self.services.len() > 2 * self.named + 256
    }

    /// A service has the same number in both.
    pub fn is_numbered_as(&self, other: &Tables) -> bool {
        Arc::ptr_eq(&self.numbering, &other.numbering)
    }

    /// Listeners and the inbound port are those of `other`.
    pub fn listens_as(&self, other: &Tables) -> bool {
        let settings = match (&self.settings, &other.settings) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        settings && Arc::ptr_eq(&self.listeners, &other.listeners)
    }

    /// The service in `self` that `id` means in `other`.
    pub fn same_service(&self, other: &Tables, id: ServiceId) -> Option<ServiceId> {
        if self.is_numbered_as(other) {
            (id.index() < self.services.len()).then_some(id)
        } else {
            self.service_id(&other.service(id).name)
        }
    }

    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.services[id.service.index()].endpoints[id.index as usize]
    }

    pub fn inbound(&self, id: InboundId) -> &Inbound {
        &self.inbounds[id.index()]
    }

    pub fn service_id(&self, name: &str) -> Option<ServiceId> {
        self.service_by_name.get(name).copied()
    }

    /// By name `<service>/<node>/<id>`.
    pub fn endpoint_id(&self, name: &str) -> Option<EndpointId> {
        let service = self.service_id(name.rsplitn(3, '/').nth(2)?)?;
        let index = self.service(service).endpoints.binary_search_by(|e| (*e.name).cmp(name)).ok()?;
        Some(EndpointId { service, index: index as u32 })
    }

    /// By instance name `<service>/<node>/<id>`.
    pub fn inbound_id(&self, instance: &str) -> Option<InboundId> {
        let found = self.inbounds.binary_search_by(|i| (*i.name).cmp(instance));
        found.ok().map(|i| InboundId(i as u32))
    }

    /// The instance of this host that an endpoint is.
    #[inline]
    pub fn here(&self, id: EndpointId) -> Option<InboundId> {
        if self.service(id.service).hosted { self.inbound_id(&self.endpoint(id).name) } else { None }
    }

    /// By instance name.
    pub fn identity(&self, instance: &str) -> Option<&Identity> {
        let found = self.identities.binary_search_by(|i| (*i.name).cmp(instance));
        found.ok().map(|i| &*self.identities[i])
    }

    /// The endpoints (any state) that a leg may use.
    pub fn leg_endpoints(&self, leg: &Leg) -> impl Iterator<Item = &Endpoint> {
        let (all, subset) = (&self.service(leg.service).endpoints, leg.subset);
        all.iter().map(|e| &**e).filter(move |e| e.is_in(subset))
    }

    /// The trust domain, or "" before the first trust.
    pub fn trust_domain(&self) -> &str {
        self.trust.as_ref().map_or("", |t| &t.trust_domain)
    }
}

pub use build::public_key_digest;
pub use change::{Change, Resources};
