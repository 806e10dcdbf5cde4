//! The contract with meshd: the structs of `policies/compiled.py`, field by field and default by default.
//!
//! Unknown fields are refused. `tests/golden/` is read by both test suites. Times end in `_ms`; percentages are per
//! ten thousand; a resource is named `<kind>/<name>`.

pub mod frames;
pub mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Grows with every field that an older proxy would not know.
pub const SCHEMA: u32 = 1;

/// Exactly one of present, exact, prefix, suffix, contains, regex is set. Several lines join with `,`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    pub name: String,
    #[serde(default)]
    pub present: bool,
    #[serde(default)]
    pub exact: Option<String>,
    #[serde(default)]
    pub prefix: Option<String>,
    #[serde(default)]
    pub suffix: Option<String>,
    #[serde(default)]
    pub contains: Option<String>,
    #[serde(default)]
    pub regex: Option<String>,
    #[serde(default)]
    pub invert: bool,
}

/// Exactly one of present, exact, regex is set; compared after percent-decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    pub name: String,
    #[serde(default)]
    pub present: bool,
    #[serde(default)]
    pub exact: Option<String>,
    #[serde(default)]
    pub regex: Option<String>,
}

/// All that is set must hold; at most one of the three paths.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    pub path_exact: Option<String>,
    pub path_prefix: Option<String>,
    pub path_regex: Option<String>,
    pub case_insensitive: bool,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
    pub methods: Vec<String>,
}

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

/// Critical and draining get no new requests; suspect ones do until the first failure to connect.
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

/// Applied in the order remove, set, add. Names lower case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderEdit {
    pub add: Vec<(String, String)>,
    pub set: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    pub percent: u32,
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 2_000, min_per_second: 10 }
    }
}

/// `attempts` further tries. `default` marks the mesh's own rule (idempotent methods only).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    pub attempts: u32,
    pub on: Vec<String>,
    pub status_codes: Vec<u16>,
    pub budget: RetryBudget,
    pub default: bool,
    pub origin: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: vec!["connect-failure".into(), "reset".into(), "peer-503".into()],
            status_codes: Vec::new(),
            budget: RetryBudget::default(),
            default: true,
            origin: "default#retry".into(),
        }
    }
}

fn whole() -> u32 {
    10_000
}

fn default_route() -> String {
    "default#route".into()
}

/// One side of a split. `broken`: why it cannot be served (503 NR).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    pub service: String,
    #[serde(default)]
    pub subset: Option<String>,
    #[serde(default = "whole")]
    pub weight: u32,
    #[serde(default)]
    pub request_headers: Option<HeaderEdit>,
    #[serde(default)]
    pub response_headers: Option<HeaderEdit>,
    #[serde(default)]
    pub broken: Option<String>,
    #[serde(default = "default_route")]
    pub origin: String,
}

fn request_timeout() -> u64 {
    15_000
}

/// One route; the first whose match holds decides. `sources` empty: all callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub origin: String,
    pub legs: Vec<Leg>,
    #[serde(default, rename = "match")]
    pub matches: Option<Match>,
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub prefix_rewrite: Option<String>,
    #[serde(default = "request_timeout")]
    pub timeout_ms: u64,
    #[serde(default)]
    pub per_try_timeout_ms: u64,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub request_headers: Option<HeaderEdit>,
    #[serde(default)]
    pub response_headers: Option<HeaderEdit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    pub min_ms: u64,
    pub max_ms: u64,
    #[serde(default = "whole")]
    pub percent: u32,
}

/// Answer with `status`, or reset the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub reset: bool,
    #[serde(default = "whole")]
    pub percent: u32,
}

/// An experiment; ends by the proxy's own clock at `until_ms` (Unix time).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub origin: String,
    pub until_ms: u64,
    #[serde(default, rename = "match")]
    pub matches: Option<Match>,
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub header: Option<String>,
    #[serde(default)]
    pub delay: Option<Delay>,
    #[serde(default)]
    pub abort: Option<Abort>,
}

/// `rules` decide by the service asked for; `faults` apply where the leg ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    pub name: String,
    pub rules: Vec<Rule>,
    #[serde(default)]
    pub faults: Vec<Fault>,
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
