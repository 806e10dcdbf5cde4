//! TCP services: one connection of the app is one connection to an endpoint.

use super::inbound::Destination;
use super::right::Trusted;
use super::upstream::Origin;
use crate::authorize::{self, Caller, Connect};
use crate::clock::Deadline;
use crate::config::Protocol;
use crate::config::frames::Reporter;
use crate::connect::{self, Target, Upstream};
use crate::exchange::Guard;
use crate::exchange::tcp::{End, relay};
use crate::identity::ALPN_TCP;
use crate::metrics::{Handle, Outcome};
use crate::route::{Decision, Routed, route_tcp};
use crate::snapshot::Entered;
use crate::spiffe::Usage;
use crate::stream::{Buf, Session, Stream};
use crate::tables::EndpointId;
use crate::worker::{Endpoint, Worker};
use std::rc::Rc;

/// Counts an open connection of a pair of services.
struct Counted<'a>(&'a Worker, Handle);

impl<'a> Counted<'a> {
    fn new(w: &'a Worker, h: Handle) -> Counted<'a> {
        w.metrics.opened(h);
        Counted(w, h)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.closed(self.1);
    }
}

/// A connection of an app of this host.
pub async fn outbound(w: &Worker, mut stream: Stream, deadline: Deadline, from: Origin) {
    let Some((mut up, right)) = route_and_reach(w, &deadline, &from).await else { return };
    let decided = from.generation();
    // the tables of today are not held for as long as a connection may live
    drop(from);
    let still = |s: Option<&Session>| right.still(w, s);
    let mut guard = Guard::new(&w.clock, decided, &still, 0);
    stream.keep_alive();
    up.stream.keep_alive();
    let mut buf = Buf::new();
    let ends = (End { stream: &mut stream, buf: &mut buf }, End { stream: &mut up.stream, buf: &mut up.buf });
    let _ = relay(ends.0, ends.1, &mut guard, &deadline).await;
}

/// An outbound connection's right to go on, and its places; given back on drop.
struct Going<'a> {
    _counted: Counted<'a>,
    _place: Option<Entered>,
    endpoint: Rc<Endpoint>,
    trusted: Trusted,
    /// The instance of this host that is called, and who calls.
    here: Option<(Box<str>, Box<str>)>,
}

impl Going<'_> {
    fn still(&self, w: &Worker, session: Option<&Session>) -> bool {
        let permitted = self.here.as_ref().is_none_or(|(name, caller)| may_connect_here(w, name, caller));
        permitted && self.trusted.still(w, session, Usage::Server)
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.endpoint.ewma.end(None, 0);
    }
}

async fn route_and_reach<'w>(w: &'w Worker, deadline: &Deadline, from: &Origin) -> Option<(Upstream, Going<'w>)> {
    let local = &from.local;
    // where to: the rule and leg of this caller
    let Routed::To(d) = route_tcp(local.tables(), from.service, Some(from.caller), || w.random.next()) else {
        return None;
    };
    if d.leg.broken.is_some() {
        return None;
    }
    local.hit(from.service, d.rule_index);
    let counted = Counted::new(w, local.handle(&w.metrics, Reporter::Source, from.caller, d.leg.service));
    local.snap.services.get(d.leg.service.index())?.budget.request();
    let trusted = Trusted::of(local);
    let (up, id, place) = reach(w, from, &d, deadline).await?;
    let endpoint = local.balance.endpoint(id)?.clone();
    endpoint.ewma.begin();
    let here = local.here(id).map(|i| (local.tables().inbound(i).name.clone(), from.caller_name().into()));
    Some((up, Going { _counted: counted, _place: place, endpoint, trusted, here }))
}

/// Whether an instance of this host may be called by a service of this host, by the tables of now.
fn may_connect_here(w: &Worker, name: &str, caller: &str) -> bool {
    let local = w.local();
    let t = local.tables();
    let Some(inbound) = t.inbound_id(name).map(|i| t.inbound(i)) else { return false };
    let verdict = authorize::at_connect(&inbound.permissions, Caller::local(caller), Protocol::Tcp);
    match verdict {
        Connect::Decided(v) => v.allowed,
        Connect::PerRequest => false,
    }
}

/// Connects to an endpoint, trying others under the budget: nothing was sent yet, so that is always safe.
async fn reach<'t>(
    w: &Worker,
    from: &'t Origin,
    d: &Decision<'t>,
    deadline: &Deadline,
) -> Option<(Upstream, EndpointId, Option<Entered>)> {
    let local = &from.local;
    let t = local.tables();
    let upstream = t.service(d.leg.service).upstream_for(Some(from.caller));
    let handle = local.handle(&w.metrics, Reporter::Source, from.caller, d.leg.service);
    let still = |_: Option<&Session>| true;
    let mut guard = Guard::new(&w.clock, from.generation(), &still, 0);
    let (mut last, retry) = (None, &d.rule.retry);
    for attempt in 0..=retry.attempts {
        let shared = local.snap.services.get(d.leg.service.index())?;
        if attempt > 0
            && !(retry.on.connect_failure
                && shared.budget.take(retry.budget_percent, retry.budget_min_per_second, w.clock.coarse_ms() / 1000))
        {
            return None;
        }
        let id = local.balance.pick(d.leg, last, w.random.next(), w.clock.now_ns())?;
        last = Some(id);
        let place = enter(w, from, id)?;
        let target = target(from, id, upstream.allow_plaintext)?;
        guard.phase(deadline, upstream.connect_timeout_ms);
        let opened = connect::unless(connect::open(&target, None), |_| guard.check(deadline, None)).await;
        deadline.disarm();
        if let Ok(Ok(up)) = opened {
            w.metrics.attempt(handle, Outcome::Success);
            local.balance.success(id, w.clock.coarse_ms());
            return Some((up, id, place));
        }
        if let Ok(Err(e)) = opened
            && e.get_ref().is_some()
        {
            w.events.say("tls_failure", |ev| {
                ev.endpoint = t.endpoint(id).name.to_string();
                ev.detail = e.to_string();
            });
        }
        w.metrics.attempt(handle, Outcome::ConnectFailure);
        super::note_failure(w, local, id, &upstream.outlier, true);
    }
    None
}

/// Permission and place of a connection to an instance of this host; None: refused.
fn enter(w: &Worker, from: &Origin, id: EndpointId) -> Option<Option<Entered>> {
    let local = &from.local;
    let Some(here) = local.here(id) else { return Some(None) };
    let inbound = local.tables().inbound(here);
    match authorize::at_connect(&inbound.permissions, Caller::local(from.caller_name()), Protocol::Tcp) {
        Connect::Decided(v) if v.allowed => {
            local.snap.inbounds.get(here.index())?.enter(inbound.max_connections).map(Some)
        }
        Connect::Decided(v) => {
            super::denied(w, from.service_name(), v.origin, from.caller_name());
            None
        }
        Connect::PerRequest => None,
    }
}

fn target<'t>(from: &'t Origin, id: EndpointId, allow_plaintext: bool) -> Option<Target<'t>> {
    let t = from.local.tables();
    if let Some(i) = from.local.here(id) {
        return Some(Target::Plain(t.inbound(i).app));
    }
    let endpoint = t.endpoint(id);
    let Some(mesh) = &endpoint.mesh else {
        return (allow_plaintext && !t.service(endpoint.service).meshed).then_some(Target::Plain(endpoint.address));
    };
    let keys = &from.local.snap.keys;
    let peering = keys.peering(from.instance(), mesh)?;
    Some(Target::Secured { address: mesh.inbound, peering, alpn: ALPN_TCP })
}

/// A verified connection for a TCP instance of this host.
pub async fn inbound(w: &Worker, mut stream: Stream, deadline: Deadline, to: Destination) {
    let caller = Caller::of(&to.right.peer, to.local.tables().trust_domain());
    match authorize::at_connect(&to.inbound().permissions, caller, Protocol::Tcp) {
        Connect::Decided(v) if v.allowed => {}
        Connect::Decided(v) => return super::denied(w, to.service(), v.origin, to.right.peer.as_str()),
        Connect::PerRequest => return,
    }
    if to.place.is_none() {
        return;
    }
    let _counted = Counted::new(w, to.handle);
    deadline.arm(to.inbound().connect_timeout_ms);
    let target = Target::Plain(to.inbound().app);
    let opened = connect::unless(connect::open(&target, None), |_| deadline.fired().then_some(())).await;
    let Ok(Ok(mut up)) = opened else { return };
    // the tables of today are not held for as long as a connection may live
    let Destination { right, local, generation, place: _place, .. } = to;
    drop(local);
    let still = |s: Option<&Session>| right.still(w, s, |_, _| true);
    let mut guard = Guard::new(&w.clock, generation, &still, 0);
    stream.keep_alive();
    let mut buf = Buf::new();
    let ends = (End { stream: &mut stream, buf: &mut buf }, End { stream: &mut up.stream, buf: &mut up.buf });
    let _ = relay(ends.0, ends.1, &mut guard, &deadline).await;
}
