//! The frames of the control socket and the values of `explain`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Atomic. `full`: everything not put is deleted (never `trust` when none is put). `put` keeps the bytes as sent,
/// because their digest is what meshd compares.
#[derive(Debug, Clone)]
pub struct Update {
    pub update: u64,
    pub full: bool,
    pub put: Vec<Box<RawValue>>,
    pub delete: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainScope {
    Proxy,
    Instance,
}

/// scope `proxy`: stop accepting, finish within `seconds`, exit; `instance`: inbound of `name` takes no new work.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    pub scope: DrainScope,
    pub name: String,
    pub seconds: f64,
}

/// What meshd sends.
#[derive(Debug, Clone)]
pub enum ToProxy {
    Update(Update),
    Drain(Drain),
    /// Ask for Stats now; answered with the same id.
    Scrape(u64),
    /// Ask for what the proxy holds; answered by Config with the same id.
    Dump(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    pub schema: u32,
    pub version: String,
    pub generation: u64,
    pub pid: u32,
    pub started: f64,
    pub features: Vec<String>,
    pub holds: BTreeMap<String, String>,
}

/// Nothing of the update is in force. `path`: inside the resource, empty: the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    pub update: u64,
    pub resource: String,
    pub path: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    pub update: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub id: u64,
    pub resources: Vec<serde_json::Value>,
}

/// Upper bounds of the duration buckets in seconds.
pub const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    Source,
    Destination,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestCount {
    pub reporter: Reporter,
    pub source: String,
    pub destination: String,
    pub method: String,
    pub code: u16,
    pub flags: String,
    pub count: u64,
}

/// `buckets`: one count per bound (not cumulative) and one beyond the last; `sum` seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duration {
    pub reporter: Reporter,
    pub source: String,
    pub destination: String,
    pub sum: f64,
    pub buckets: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpCount {
    pub reporter: Reporter,
    pub source: String,
    pub destination: String,
    pub opened: u64,
    pub closed: u64,
}

/// outcome: success, `connect_failure`, reset, timeout, `peer_503`, `error_status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptCount {
    pub source: String,
    pub destination: String,
    pub outcome: String,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointStat {
    pub name: String,
    pub ejected: bool,
    pub inflight: u64,
    pub ewma_ms: f64,
    pub successes: u64,
    pub failures: u64,
    pub last_success: f64,
    /// Of a suspect: good, bad, unknown; empty: it is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proof: String,
}

/// Handshakes with suspects of a service. result: good, bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeCount {
    pub service: String,
    pub result: String,
    pub count: u64,
}

/// Cumulative totals since `started`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    pub id: u64,
    pub started: f64,
    pub requests: Vec<RequestCount>,
    pub durations: Vec<Duration>,
    pub tcp: Vec<TcpCount>,
    pub attempts: Vec<AttemptCount>,
    pub retry_budget_exhausted: Vec<Named>,
    pub denied: Vec<Named>,
    pub rules: Vec<Named>,
    pub endpoints: Vec<EndpointStat>,
    pub connections: u64,
    pub dropped_events: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeCount>,
}

/// kind: ejected, restored, `suspect_good`, `suspect_bad`, denied, drained, `tls_failure`, `listener_failed`,
/// `listener_bound`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub at: f64,
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    pub events: Vec<Event>,
}

/// What the proxy sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromProxy {
    Hello(Hello),
    Applied(Applied),
    Rejected(Rejected),
    Config(Config),
    Stats(Stats),
    Events(Events),
}

fn get() -> String {
    "GET".into()
}

fn slash() -> String {
    "/".into()
}

/// `source` and `destination` are service names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub source: String,
    pub destination: String,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default = "slash")]
    pub path: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// stdin of `meshd-proxy explain`.
#[derive(Debug, Clone)]
pub struct ExplainInput {
    pub resources: Vec<Box<RawValue>>,
    pub request: ExplainRequest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub stage: String,
    pub verdict: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// stdout of `meshd-proxy explain`. verdict: allow, deny, `no_route`, unavailable, fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    pub verdict: String,
    pub decisions: Vec<Decision>,
}
