//! The contract with meshd: the structs of `policies/compiled.py`, field by field and default by default.
//!
//! Unknown fields are refused. `tests/golden/` is read by both test suites. Times end in `_ms`; percentages are per
//! ten thousand; a resource is named `<kind>/<name>`.

pub mod frames;
pub mod parse;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use routes::*;

/// Grows with every field that an older proxy would not know.
pub const SCHEMA: u32 = 1;

/// An upstream port on loopback. name: `<instance>:<service>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub name: String,
    pub address: String,
    pub port: u16,
    pub instance: String,
    pub service: String,
}

/// Passive ejection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    pub consecutive_failures: u32,
    pub base_ejection_ms: u64,
    pub max_ejection_percent: u32,
    pub interval_ms: u64,
}

impl Default for Outlier {
    fn default() -> Self {
        Self { consecutive_failures: 5, base_ejection_ms: 30_000, max_ejection_percent: 5_000, interval_ms: 10_000 }
    }
}

/// How one calling service treats a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    pub connect_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub allow_plaintext: bool,
    pub outlier: Outlier,
    pub origin: String,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 1_000,
            idle_timeout_ms: 60_000,
            allow_plaintext: false,
            outlier: Outlier::default(),
            origin: "default#upstream".into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Http,
}

/// A destination. `callers` overrides `upstream` by calling service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub upstream: Upstream,
    #[serde(default)]
    pub callers: BTreeMap<String, Upstream>,
}

/// Critical and draining get no new requests; suspect ones do while their identity is proven (`suspect`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[default]
    Passing,
    Warning,
    Critical,
    Suspect,
    Draining,
}

impl State {
    /// Whether an endpoint in this state may get new requests.
    pub fn takes_requests(self) -> bool {
        matches!(self, State::Passing | State::Warning | State::Suspect)
    }

    pub fn name(self) -> &'static str {
        match self {
            State::Passing => "passing",
            State::Warning => "warning",
            State::Critical => "critical",
            State::Suspect => "suspect",
            State::Draining => "draining",
        }
    }
}

fn one() -> u32 {
    1
}

/// One instance of a destination, name `<service>/<node>/<id>`. `inbound` none: not meshed (plaintext only).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub name: String,
    pub id: String,
    pub service: String,
    pub node: String,
    pub address: String,
    #[serde(default)]
    pub inbound: Option<String>,
    #[serde(default)]
    pub sni: String,
    #[serde(default)]
    pub spiffe: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub subsets: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Allow,
    #[default]
    Deny,
}

/// A layer-7 rule of an intention: the first that matches wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    pub action: Action,
    pub origin: String,
    #[serde(default, rename = "match")]
    pub matches: Option<Match>,
}

/// A caller (service name, or `*`: any authenticated peer). Either `action`, or `permissions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    pub origin: String,
    #[serde(default)]
    pub action: Option<Action>,
    #[serde(default)]
    pub permissions: Vec<Permission>,
}

/// Intentions of one destination, in order of precedence: the first source that fits decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    pub sources: Vec<Source>,
    pub fallback: Action,
    pub fallback_origin: String,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { sources: Vec::new(), fallback: Action::Deny, fallback_origin: "default#DefaultIntention".into() }
    }
}

fn second() -> u64 {
    1_000
}

/// A local instance, reached by SNI on the inbound port, served to `app`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    pub name: String,
    pub service: String,
    pub app: String,
    pub sni: String,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub permissions: Permissions,
    #[serde(default)]
    pub max_connections: u32,
    #[serde(default = "second")]
    pub connect_timeout_ms: u64,
    #[serde(default)]
    pub request_timeout_ms: u64,
}

/// Certificate (PEM chain, leaf first) and key (PEM, PKCS#8) of a local instance.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub name: String,
    pub spiffe: String,
    pub certificate: String,
    pub private_key: String,
}

impl std::fmt::Debug for Identity {
    /// Without the key: a debug line must not leak it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).field("spiffe", &self.spiffe).finish_non_exhaustive()
    }
}

/// Either an identity (certificates issued before `before_ms`, 0: all) or a serial (lower hex).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revoked {
    pub spiffe: Option<String>,
    pub serial: Option<String>,
    pub before_ms: u64,
}

/// Roots (PEM) and revocations; the one name is `trust`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    pub name: String,
    pub trust_domain: String,
    pub roots: Vec<String>,
    #[serde(default)]
    pub revoked: Vec<Revoked>,
}

/// `path` empty: the proxy's stdout. `sample` per ten thousand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    pub enabled: bool,
    pub path: String,
    pub sample: u32,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, path: String::new(), sample: 10_000 }
    }
}

/// The proxy's own; the one name is `settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub name: String,
    pub node: String,
    pub inbound_address: String,
    pub inbound_port: u16,
    #[serde(default)]
    pub access_log: AccessLog,
    #[serde(default)]
    pub explain_denials: bool,
    #[serde(default)]
    pub trace_sampling: u32,
}

/// Any resource, tagged by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Resource {
    Listener(Listener),
    Service(Service),
    Endpoint(Endpoint),
    Routes(Routes),
    Inbound(Inbound),
    Identity(Identity),
    Trust(Trust),
    Settings(Settings),
}
