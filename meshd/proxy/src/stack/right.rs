//! What a verified peer may do with an instance of this host, asked again on live connections when the tables change.

use crate::authorize::{self, Caller, Connect};
use crate::config::Protocol;
use crate::identity::{Accepted, TrustBundle};
use crate::spiffe::{Spiffe, Usage};
use crate::stream::Session;
use crate::tables::Permissions;
use crate::worker::{Local, Worker};
use std::cell::RefCell;
use std::sync::Arc;

/// The trust that a live peer was verified with; verified anew only when it changed.
pub struct Trusted(RefCell<Option<Arc<TrustBundle>>>);

impl Trusted {
    pub fn of(local: &Local) -> Trusted {
        Trusted(RefCell::new(local.snap.keys.trust().cloned()))
    }

    /// Whether the session's peer would be accepted with the trust of now. No session: nobody to distrust.
    pub fn still(&self, w: &Worker, session: Option<&Session>, usage: Usage) -> bool {
        let (now, Some(session)) = (w.local(), session) else { return true };
        let trust = now.snap.keys.trust();
        if same(self.0.borrow().as_ref(), trust) {
            return true;
        }
        let good = Accepted::still_trusted(session, &now.snap.keys, usage);
        if good {
            *self.0.borrow_mut() = trust.cloned();
        }
        good
    }
}

fn same(a: Option<&Arc<TrustBundle>>, b: Option<&Arc<TrustBundle>>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
}

/// One inbound connection's right to be.
pub struct Right {
    /// The instance.
    pub name: Box<str>,
    pub peer: Spiffe,
    pub protocol: Protocol,
    trusted: Trusted,
}

impl Right {
    /// `local`: what the peer was verified with.
    pub fn new(local: &Local, name: &str, peer: Spiffe, protocol: Protocol) -> Right {
        Right { name: name.into(), peer, protocol, trusted: Trusted::of(local) }
    }

    /// By the tables of now: the instance and its protocol, trust, layer 4. `decide` says the rest.
    pub fn still(
        &self,
        w: &Worker,
        session: Option<&Session>,
        decide: impl FnOnce(&Permissions, Caller<'_>) -> bool,
    ) -> bool {
        let now = w.local();
        let t = now.tables();
        let Some(inbound) = t.inbound_id(&self.name).map(|i| t.inbound(i)) else { return false };
        if inbound.protocol != self.protocol || session.is_none() {
            return false;
        }
        let caller = Caller::of(&self.peer, t.trust_domain());
        let connect = authorize::at_connect(&inbound.permissions, caller, inbound.protocol);
        let layer4 = !matches!(connect, Connect::Decided(v) if !v.allowed);
        layer4 && self.trusted.still(w, session, Usage::Client) && decide(&inbound.permissions, caller)
    }
}
