//! Matching, routes and faults of the contract.

use serde::{Deserialize, Serialize};

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
