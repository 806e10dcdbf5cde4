//! The tables: every resource compiled once into one immutable value, swapped whole.
//!
//! Shared as `Arc<Tables>`; each thread takes its own clone once per swap, and a request borrows. Names are interned:
//! a service, an endpoint or a subset is an index, valid only inside the tables that it came from. Lookups allocate
//! nothing.

mod build;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

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
    /// A service known by any resource.
    ServiceId,
    /// An endpoint.
    EndpointId,
    /// A local instance that the inbound port serves.
    InboundId
}

/// Everything a request needs, compiled.
#[derive(Debug, Default)]
pub struct Tables {
    pub services: Vec<Service>,
    pub endpoints: Vec<Endpoint>,
    pub inbounds: Vec<Inbound>,
    pub listeners: Vec<Listener>,
    pub identities: Vec<Identity>,
    pub trust: Option<Trust>,
    pub settings: Option<config::Settings>,
    service_by_name: HashMap<Box<str>, ServiceId>,
    endpoint_by_name: HashMap<Box<str>, EndpointId>,
    inbound_by_name: HashMap<Box<str>, InboundId>,
    inbound_by_sni: HashMap<Box<str>, InboundId>,
    identity_by_name: HashMap<Box<str>, usize>,
}

/// A service as a destination (and as a caller's name).
#[derive(Debug)]
pub struct Service {
    pub name: Box<str>,
    /// Some `service`, `endpoint`, `routes` or `inbound` resource speaks of it; false: only its name occurs.
    pub known: bool,
    /// Some endpoint of it is meshed: plaintext to it is never chosen.
    pub meshed: bool,
    pub protocol: Protocol,
    pub upstream: Upstream,
    /// Overrides by calling service.
    pub callers: Vec<(ServiceId, Upstream)>,
    /// All endpoints in any state, by name.
    pub endpoints: Vec<EndpointId>,
    pub subsets: Vec<Subset>,
    pub routes: Routes,
}

impl Service {
    /// How `caller` treats this destination.
    pub fn upstream_for(&self, caller: Option<ServiceId>) -> &Upstream {
        let own = caller.and_then(|c| self.callers.iter().find(|(id, _)| *id == c));
        own.map_or(&self.upstream, |(_, upstream)| upstream)
    }
}

/// A named part of a service's endpoints (any state).
#[derive(Debug)]
pub struct Subset {
    pub name: Box<str>,
    pub endpoints: Vec<EndpointId>,
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
}

impl Endpoint {
    /// Where a caller of another host connects.
    pub fn reached_at(&self) -> SocketAddr {
        self.mesh.as_ref().map_or(self.address, |m| m.inbound)
    }
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
    /// Compiles resources. A rejection names the resource and the JSON path in it.
    pub fn build(resources: &[&config::Resource]) -> Result<Tables, Rejection> {
        build::build(resources)
    }

    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[id.index()]
    }

    pub fn inbound(&self, id: InboundId) -> &Inbound {
        &self.inbounds[id.index()]
    }

    pub fn service_id(&self, name: &str) -> Option<ServiceId> {
        self.service_by_name.get(name).copied()
    }

    pub fn endpoint_id(&self, name: &str) -> Option<EndpointId> {
        self.endpoint_by_name.get(name).copied()
    }

    /// By instance name `<service>/<node>/<id>`.
    pub fn inbound_id(&self, instance: &str) -> Option<InboundId> {
        self.inbound_by_name.get(instance).copied()
    }

    /// By SNI as it came, which must be lower case already (the keys are hex).
    pub fn inbound_by_sni(&self, sni: &str) -> Option<InboundId> {
        self.inbound_by_sni.get(sni).copied()
    }

    /// By instance name.
    pub fn identity(&self, instance: &str) -> Option<&Identity> {
        self.identity_by_name.get(instance).map(|&i| &self.identities[i])
    }

    /// The endpoints (any state) that a leg may use.
    pub fn leg_endpoints(&self, leg: &Leg) -> &[EndpointId] {
        let service = self.service(leg.service);
        match leg.subset {
            None => &service.endpoints,
            Some(i) => &service.subsets[i as usize].endpoints,
        }
    }

    /// The trust domain, or "" before the first trust.
    pub fn trust_domain(&self) -> &str {
        self.trust.as_ref().map_or("", |t| &t.trust_domain)
    }
}

pub use build::public_key_digest;
