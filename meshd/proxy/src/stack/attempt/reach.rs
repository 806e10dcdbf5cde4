//! From an endpoint to an open stream: permission on this host, a pooled stream or a new one, TLS or not.

use super::{Attempts, Outcome, Tried};
use crate::authorize::{self, Caller};
use crate::connect::{self, Target, Upstream};
use crate::downstream::Client;
use crate::error::{Answer, Flag};
use crate::exchange::{Guard, Stop};
use crate::identity::ALPN_HTTP;
use crate::metrics::Outcome as Counted;
use crate::retry::Failed;
use crate::snapshot::Entered;
use crate::tables::{EndpointId, InboundId};

impl<'t> Attempts<'_, 't> {
    /// What a call to an instance of this host must pass: the same permissions as from afar. Returns its place among
    /// the instance's connections.
    pub(super) fn enter(&mut self, id: EndpointId) -> Result<Option<Entered>, Answer<'t>> {
        let Some(here) = self.local.here(id) else { return Ok(None) };
        let t = self.local.tables();
        let inbound = t.inbound(here);
        self.here.set(Some(&inbound.name));
        let verdict =
            authorize::request(&inbound.permissions, Caller::local(self.from.caller_name()), self.request.view);
        if !verdict.allowed {
            let explain = t.settings.as_ref().is_some_and(|s| s.explain_denials);
            super::super::denied(self.w, self.service_name(), verdict.origin, self.from.caller_name());
            return Err(Answer::denied(self.service_name(), verdict.origin, explain));
        }
        let Some(shared) = self.local.snap.inbounds.get(here.index()) else { return Ok(None) };
        match shared.enter(inbound.max_connections) {
            Some(e) => Ok(Some(e)),
            None => Err(Answer::new(503, Flag::RateLimited, "too many connections", self.service_name())),
        }
    }

    /// A stream to the endpoint: a pooled one, or a new one within the connect timeout.
    pub(super) async fn acquire(
        &mut self,
        id: EndpointId,
        fresh: bool,
        client: &mut Client,
        guard: &mut Guard<'_>,
    ) -> Result<Upstream, Tried<'t>> {
        let here = self.local.here(id);
        let (pool, number) = match here {
            Some(i) => (self.local.app_pool(i), 0),
            None => (self.local.pool(id), self.from.number),
        };
        let Some(pool) = pool else { return Err(Tried::Failed(Failed::Connect)) };
        if !fresh && let Some(up) = connect::pooled(pool, number).await {
            return Ok(up);
        }
        let target = self.target(id, here).map_err(|a| Tried::Done(Outcome::Answer(a)))?;
        guard.phase(
            &client.deadline,
            here.map_or(self.upstream.connect_timeout_ms, |i| self.local.tables().inbound(i).connect_timeout_ms),
        );
        let opened = connect::unless(connect::open(&target, Some((pool, number))), |cx| {
            guard.check(&client.deadline, None).or_else(|| client.poll_gone(cx).then_some(Stop::Gone))
        });
        let why = match opened.await {
            Ok(Ok(up)) => return Ok(up),
            Err(Stop::Gone) => return Err(Tried::Done(Outcome::Gone)),
            Err(Stop::Deadline) if guard.is_over() => {
                // the request's own time is over: that does not say that nobody is there
                self.failed(id, Counted::Timeout, false);
                return Err(Tried::Done(Outcome::Answer(Answer::timeout(self.service_name()))));
            }
            Ok(Err(e)) if e.get_ref().is_some() => e.to_string(),
            _ => String::new(),
        };
        if !why.is_empty() {
            let name = self.endpoint_name();
            self.w.events.say("tls_failure", |e| {
                e.endpoint = name.into();
                e.detail = why;
            });
        }
        self.failed(id, Counted::ConnectFailure, true);
        Err(Tried::Failed(Failed::Connect))
    }

    fn target(&self, id: EndpointId, here: Option<InboundId>) -> Result<Target<'t>, Answer<'t>> {
        let t = self.local.tables();
        if let Some(i) = here {
            return Ok(Target::Plain(t.inbound(i).app));
        }
        let endpoint = t.endpoint(id);
        let Some(mesh) = &endpoint.mesh else {
            // never by accident: only if the caller's side says so, and never to a service that has meshed instances
            if self.upstream.allow_plaintext && !t.service(endpoint.service).meshed {
                return Ok(Target::Plain(endpoint.address));
            }
            return Err(Answer::new(
                503,
                Flag::NoEndpoint,
                "the endpoint is not meshed and plaintext is not allowed",
                self.service_name(),
            ));
        };
        let keys = &self.local.snap.keys;
        match keys.peering(self.from.instance(), mesh) {
            Some(peering) => Ok(Target::Secured { address: mesh.inbound, peering, alpn: ALPN_HTTP }),
            None => Err(Answer::new(
                503,
                Flag::ConnectFailure,
                "this host has no identity for the caller yet",
                self.service_name(),
            )),
        }
    }
}
