//! Whose connection came in on an upstream listener, and where it wants to go.

use crate::config::Protocol;
use crate::tables::{ServiceId, Tables};
use crate::worker::{Local, Worker};
use std::rc::Rc;

/// One listener, as of one snapshot; renewed when the tables change.
pub struct Origin {
    name: Rc<str>,
    pub local: Rc<Local>,
    generation: u64,
    listener: usize,
    pub caller: ServiceId,
    pub service: ServiceId,
    /// The calling instance's number: its streams are pooled apart.
    pub number: u32,
}

impl Origin {
    /// None: the listener is gone.
    pub fn of(w: &Worker, name: &Rc<str>) -> Option<Origin> {
        let local = w.local();
        let listener = find(local.tables(), name)?;
        let l = local.tables().listeners.get(listener)?;
        let (caller, service, number) = (l.caller, l.service, w.caller(&l.instance));
        Some(Origin { name: name.clone(), generation: w.clock.generation(), listener, caller, service, number, local })
    }

    /// The same under the tables of now; None: this connection is to end before another request.
    #[inline]
    pub fn renewed(self, w: &Worker) -> Option<Origin> {
        if !self.is_stale(w) {
            return Some(self);
        }
        let protocol = self.protocol();
        Origin::of(w, &self.name).filter(|o| o.protocol() == protocol)
    }

    /// Of the tables that decide.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The tables changed since.
    #[inline]
    pub fn is_stale(&self, w: &Worker) -> bool {
        self.generation != w.clock.generation()
    }

    /// A service of which nothing is known is spoken to in HTTP: the answer can say so.
    pub fn protocol(&self) -> Protocol {
        let s = self.local.tables().service(self.service);
        if s.known { s.protocol } else { Protocol::Http }
    }

    pub fn instance(&self) -> &str {
        self.local.tables().listeners.get(self.listener).map_or("", |l| &l.instance)
    }

    pub fn caller_name(&self) -> &str {
        &self.local.tables().service(self.caller).name
    }

    pub fn service_name(&self) -> &str {
        &self.local.tables().service(self.service).name
    }
}

fn find(tables: &Tables, name: &str) -> Option<usize> {
    tables.listeners.iter().position(|l| &*l.name == name)
}
