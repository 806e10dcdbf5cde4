//! JSON in, values out: errors name the resource and the JSON path inside it.

use aws_lc_rs::digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Resource;
use super::frames::{Drain, DrainScope, ExplainInput, ExplainRequest, ToProxy, Update};

/// Why a value cannot be read or used. `resource` is `<kind>/<name>` as far as known; `path` a JSON path inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub resource: String,
    pub path: String,
    pub reason: String,
}

impl Invalid {
    pub fn new(resource: impl Into<String>, path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { resource: resource.into(), path: path.into(), reason: reason.into() }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.resource, self.path, self.reason)
    }
}

impl std::error::Error for Invalid {}

/// The digest of a resource: the first 32 hex digits of SHA-256 over its bytes as sent.
pub fn digest(raw: &[u8]) -> String {
    let mut text = hex(digest::digest(&digest::SHA256, raw).as_ref());
    text.truncate(32);
    text
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

fn typed<T: DeserializeOwned>(resource: &str, value: Value) -> Result<T, Invalid> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        Invalid::new(resource, if path == "." { String::new() } else { path }, e.inner().to_string())
    })
}

fn text(map: &serde_json::Map<String, Value>, key: &str) -> String {
    map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Resource {
    /// Reads one resource from its JSON.
    pub fn parse(raw: &str) -> Result<Resource, Invalid> {
        let value: Value = serde_json::from_str(raw).map_err(|e| Invalid::new("", "", e.to_string()))?;
        let Value::Object(mut map) = value else {
            return Err(Invalid::new("", "", "a resource is a JSON object"));
        };
        let kind = text(&map, "kind");
        let resource = format!("{kind}/{}", text(&map, "name"));
        map.remove("kind");
        let value = Value::Object(map);
        Ok(match kind.as_str() {
            "listener" => Resource::Listener(typed(&resource, value)?),
            "service" => Resource::Service(typed(&resource, value)?),
            "endpoint" => Resource::Endpoint(typed(&resource, value)?),
            "routes" => Resource::Routes(typed(&resource, value)?),
            "inbound" => Resource::Inbound(typed(&resource, value)?),
            "identity" => Resource::Identity(typed(&resource, value)?),
            "trust" => Resource::Trust(typed(&resource, value)?),
            "settings" => Resource::Settings(typed(&resource, value)?),
            _ => return Err(Invalid::new(resource, "kind", format!("unknown kind {kind:?}"))),
        })
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Resource::Listener(_) => "listener",
            Resource::Service(_) => "service",
            Resource::Endpoint(_) => "endpoint",
            Resource::Routes(_) => "routes",
            Resource::Inbound(_) => "inbound",
            Resource::Identity(_) => "identity",
            Resource::Trust(_) => "trust",
            Resource::Settings(_) => "settings",
        }
    }

    /// `<kind>/<name>`.
    pub fn id(&self) -> String {
        let name = match self {
            Resource::Listener(r) => &r.name,
            Resource::Service(r) => &r.name,
            Resource::Endpoint(r) => &r.name,
            Resource::Routes(r) => &r.name,
            Resource::Inbound(r) => &r.name,
            Resource::Identity(r) => &r.name,
            Resource::Trust(r) => &r.name,
            Resource::Settings(r) => &r.name,
        };
        format!("{}/{name}", self.kind())
    }
}

#[derive(Deserialize)]
struct TypeOnly {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateWire {
    #[serde(rename = "type")]
    _type: String,
    update: u64,
    #[serde(default)]
    full: bool,
    #[serde(default)]
    put: Vec<Box<RawValue>>,
    #[serde(default)]
    delete: Vec<String>,
}

fn thirty() -> f64 {
    30.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainWire {
    #[serde(rename = "type")]
    _type: String,
    scope: DrainScope,
    #[serde(default)]
    name: String,
    #[serde(default = "thirty")]
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdWire {
    #[serde(rename = "type")]
    _type: String,
    id: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainWire {
    resources: Vec<Box<RawValue>>,
    request: ExplainRequest,
}

fn wire<'a, T: Deserialize<'a>>(name: &str, json: &'a [u8]) -> Result<T, Invalid> {
    let mut de = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut de)
        .map_err(|e| Invalid::new(name, e.path().to_string(), e.inner().to_string()))?;
    de.end().map_err(|e| Invalid::new(name, "", e.to_string()))?;
    Ok(value)
}

impl ToProxy {
    /// Reads one frame's JSON. The error's `resource` is the frame's type.
    pub fn parse(json: &[u8]) -> Result<ToProxy, Invalid> {
        let kind = wire::<TypeOnly>("frame", json)?.kind;
        Ok(match kind.as_str() {
            "update" => {
                let UpdateWire { update, full, put, delete, .. } = wire(&kind, json)?;
                ToProxy::Update(Update { update, full, put, delete })
            }
            "drain" => {
                let DrainWire { scope, name, seconds, .. } = wire(&kind, json)?;
                if !seconds.is_finite() || seconds < 0.0 {
                    return Err(Invalid::new(kind, "seconds", "not a number of seconds"));
                }
                ToProxy::Drain(Drain { scope, name, seconds })
            }
            "scrape" => ToProxy::Scrape(wire::<IdWire>(&kind, json)?.id),
            "dump" => ToProxy::Dump(wire::<IdWire>(&kind, json)?.id),
            _ => return Err(Invalid::new("frame", "type", format!("unknown type {kind:?}"))),
        })
    }
}

impl ExplainInput {
    /// Reads stdin of `meshd-proxy explain`.
    pub fn parse(json: &[u8]) -> Result<ExplainInput, Invalid> {
        let ExplainWire { resources, request } = wire("explain", json)?;
        Ok(ExplainInput { resources, request })
    }
}
