//! What the proxy holds, and how an update changes it: wholly or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::config::Resource;
use crate::config::frames::{Rejected, Update};
use crate::config::parse::{Invalid, digest};
use crate::tables::Tables;

/// One resource as held.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) raw: Box<RawValue>,
    pub(super) digest: String,
    parsed: Arc<Resource>,
}

type Set = BTreeMap<String, Held>;

/// The set in force.
#[derive(Debug, Default)]
pub struct Holder {
    held: Set,
    update: u64,
}

/// A set that could be in force: swap the tables on every thread, then `commit` it and send Applied.
#[derive(Debug)]
pub struct Candidate {
    pub update: u64,
    pub tables: Arc<Tables>,
    held: Set,
}

impl Holder {
    /// What the set would be after the update. An error changes nothing.
    pub fn prepare(&self, update: &Update) -> Result<Candidate, Rejected> {
        let reject =
            |e: Invalid| Rejected { update: update.update, resource: e.resource, path: e.path, reason: e.reason };
        let mut held = if update.full { self.only_trust() } else { self.held.clone() };
        for id in &update.delete {
            held.remove(id);
        }
        for raw in &update.put {
            let (id, resource) = self.read(raw).map_err(reject)?;
            held.insert(id, resource);
        }
        let resources: Vec<&Resource> = held.values().map(|h| h.parsed.as_ref()).collect();
        let tables = Tables::build(&resources).map_err(reject)?;
        Ok(Candidate { update: update.update, tables: Arc::new(tables), held })
    }

    /// The candidate's tables are what requests see now.
    pub fn commit(&mut self, candidate: Candidate) {
        self.held = candidate.held;
        self.update = candidate.update;
    }

    /// The last update in force, 0: none.
    pub fn update(&self) -> u64 {
        self.update
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Digest by `<kind>/<name>`.
    pub fn holds(&self) -> BTreeMap<String, String> {
        self.held.iter().map(|(id, h)| (id.clone(), h.digest.clone())).collect()
    }

    /// Everything held, as sent, with `sha256:<hex of the public key>` in place of each private key.
    pub fn dump(&self) -> Vec<serde_json::Value> {
        self.held.values().filter_map(|h| redacted(&h.raw)).collect()
    }

    pub(super) fn raws(&self) -> impl Iterator<Item = &RawValue> {
        self.held.values().map(|h| h.raw.as_ref())
    }

    fn only_trust(&self) -> Set {
        self.held.iter().filter(|(id, _)| id.starts_with("trust/")).map(|(id, h)| (id.clone(), h.clone())).collect()
    }

    /// Parses a resource, unless the same bytes are held already.
    fn read(&self, raw: &RawValue) -> Result<(String, Held), Invalid> {
        let parsed = Resource::parse(raw.get())?;
        let id = parsed.id();
        let digest = digest(raw.get().as_bytes());
        Ok((id, Held { raw: raw.to_owned(), digest, parsed: Arc::new(parsed) }))
    }
}

fn redacted(raw: &RawValue) -> Option<serde_json::Value> {
    let mut value: serde_json::Value = serde_json::from_str(raw.get()).ok()?;
    if value.get("kind").is_some_and(|k| k == "identity") {
        let certificate = value.get("certificate").and_then(|c| c.as_str()).unwrap_or_default();
        let shown = crate::tables::public_key_digest(certificate);
        value["private_key"] = format!("sha256:{shown}").into();
    }
    Some(value)
}
