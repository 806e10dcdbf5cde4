//! What the proxy holds, and how an update changes it: wholly or not at all, at the cost of what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::config::Resource;
use crate::config::frames::{Rejected, Update};
use crate::config::parse::{Invalid, digest};
use crate::tables::{Change, Resources, Tables};

/// One resource as held.
#[derive(Debug, Clone)]
struct Held {
    raw: Arc<RawValue>,
    digest: String,
    parsed: Arc<Resource>,
}

type Set = BTreeMap<String, Held>;

/// By id: what it becomes; None: it goes.
type Changes = BTreeMap<String, Option<Held>>;

/// The set in force.
#[derive(Debug, Default)]
pub struct Holder {
    held: Set,
    tables: Arc<Tables>,
    update: u64,
}

/// A set that could be in force: swap the tables on every thread, then `commit` it and send Applied.
#[derive(Debug)]
pub struct Candidate {
    pub update: u64,
    pub tables: Arc<Tables>,
    changes: Changes,
}

impl Candidate {
    /// Resources that it changes, as sent; None: deleted.
    pub fn raws(&self) -> impl Iterator<Item = (String, Option<Arc<RawValue>>)> {
        self.changes.iter().map(|(id, h)| (id.clone(), h.as_ref().map(|h| h.raw.clone())))
    }
}

/// The set as it will be.
struct After<'a> {
    held: &'a Set,
    changes: &'a Changes,
}

impl<'a> After<'a> {
    fn parsed(&self, id: &str) -> Option<&'a Resource> {
        let held = match self.changes.get(id) {
            Some(change) => change.as_ref(),
            None => self.held.get(id),
        };
        held.map(|h| &*h.parsed)
    }

    /// By id, of ids that begin with `prefix`.
    fn all(&self, prefix: &str) -> BTreeMap<&'a str, &'a Resource> {
        let held = self.held.range(prefix.to_owned()..).take_while(|(id, _)| id.starts_with(prefix));
        let ids = held.map(|(id, _)| id.as_str()).chain(self.changes.keys().map(String::as_str));
        ids.filter(|id| id.starts_with(prefix)).filter_map(|id| self.parsed(id).map(|r| (id, r))).collect()
    }
}

impl Resources for After<'_> {
    fn get(&self, id: &str) -> Option<&Resource> {
        self.parsed(id)
    }

    fn kind(&self, kind: &str) -> Vec<&Resource> {
        self.all(&format!("{kind}/")).into_values().collect()
    }
}

impl Holder {
    /// What the set would be after the update. An error changes nothing.
    pub fn prepare(&self, update: &Update) -> Result<Candidate, Rejected> {
        let reject =
            |e: Invalid| Rejected { update: update.update, resource: e.resource, path: e.path, reason: e.reason };
        let changes = self.changes(update).map_err(reject)?;
        let after = After { held: &self.held, changes: &changes };
        let tables = if update.full || self.tables.is_crowded() {
            let all = after.all("");
            let all: Vec<Change> = all.into_values().map(|r| Change { before: None, after: Some(r) }).collect();
            Tables::default().change(&all, &after)
        } else {
            let now = changes.iter().map(|(id, change)| Change {
                before: self.held.get(id).map(|h| &*h.parsed),
                after: change.as_ref().map(|h| &*h.parsed),
            });
            self.tables.change(&now.collect::<Vec<_>>(), &after)
        };
        let tables = Arc::new(tables.map_err(reject)?);
        Ok(Candidate { update: update.update, tables, changes })
    }

    /// The candidate's tables are what requests see now.
    pub fn commit(&mut self, candidate: Candidate) {
        for (id, change) in candidate.changes {
            match change {
                Some(held) => _ = self.held.insert(id, held),
                None => _ = self.held.remove(&id),
            }
        }
        self.tables = candidate.tables;
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

    /// Everything held, as sent, keys and all.
    #[cfg(test)]
    pub(super) fn sent(&self) -> Vec<serde_json::Value> {
        self.held.values().map(|h| serde_json::from_str(h.raw.get()).unwrap()).collect()
    }

    /// What the update changes: of a full one everything that it does not put goes, but for trust.
    fn changes(&self, update: &Update) -> Result<Changes, Invalid> {
        let mut changes = Changes::new();
        if update.full {
            changes.extend(self.held.keys().filter(|id| !id.starts_with("trust/")).map(|id| (id.clone(), None)));
        }
        let known = update.delete.iter().filter(|id| self.held.contains_key(*id));
        changes.extend(known.map(|id| (id.clone(), None)));
        for raw in &update.put {
            let digest = digest(raw.get().as_bytes());
            let parsed = Resource::parse(raw.get())?;
            let id = parsed.id();
            if self.held.get(&id).is_some_and(|h| h.digest == digest) {
                changes.remove(&id);
            } else {
                changes.insert(id, Some(Held { raw: raw.clone().into(), digest, parsed: Arc::new(parsed) }));
            }
        }
        Ok(changes)
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
