//! From resources to tables: what changes, and what the whole is then.

use std::collections::BTreeMap;

use super::{Rejection, Tables, build};
use crate::config;

/// The resources as they will be, by `<kind>/<name>`.
pub trait Resources {
    fn get(&self, id: &str) -> Option<&config::Resource>;
    /// All of a kind, by name.
    fn kind(&self, kind: &str) -> Vec<&config::Resource>;
}

/// What becomes of one resource.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    pub before: Option<&'a config::Resource>,
    pub after: Option<&'a config::Resource>,
}

/// Resources without a past.
struct Given<'a>(BTreeMap<String, &'a config::Resource>);

impl Resources for Given<'_> {
    fn get(&self, id: &str) -> Option<&config::Resource> {
        self.0.get(id).copied()
    }

    fn kind(&self, kind: &str) -> Vec<&config::Resource> {
        self.0.values().copied().filter(|r| r.kind() == kind).collect()
    }
}

impl Tables {
    /// Compiles resources. A rejection names the resource and the JSON path in it.
    pub fn build(resources: &[&config::Resource]) -> Result<Tables, Rejection> {
        let given = Given(resources.iter().map(|r| (r.id(), *r)).collect());
        let changes: Vec<Change> = given.0.values().map(|r| Change { before: None, after: Some(r) }).collect();
        Tables::default().change(&changes, &given)
    }

    /// The tables after `changes`, of which `set` is the result. Only what they touch is compiled.
    pub fn change(&self, changes: &[Change<'_>], set: &dyn Resources) -> Result<Tables, Rejection> {
        build::change(self, changes, set)
    }
}
