//! Requests of an app of this host.

use super::attempt::{Attempts, Outcome, Request};
use super::record::{Ended, record};
use super::upstream::Origin;
use super::{Next, finish};
use crate::authorize::{self, Caller};
use crate::clock::TICK_MS;
use crate::config::frames::Reporter;
use crate::downstream::{Client, HeadBytes, NoHead};
use crate::error::{Answer, Flag};
use crate::exchange::{Body, Guard, Stop};
use crate::fault::{self, Abort};
use crate::headers::trace::TraceParent;
use crate::http1::head::RequestHead;
use crate::http1::path::{Normal, normalize};
use crate::http1::{Refused, Sender};
use crate::identity::Accepted;
use crate::metrics::Flags;
use crate::retry::KEPT_BODY;
use crate::route::matching::{HeaderLines, RequestView};
use crate::route::{Decision, Routed, rewrite, route};
use crate::spiffe::Usage;
use crate::stream::Session;
use crate::tables::{ServiceId, Tables};
use crate::worker::Worker;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// Serves requests until the connection ends.
pub async fn serve(w: &Rc<Worker>, mut client: Client, mut from: Origin) {
    let how = loop {
        let got = client.next_head(Sender::App, || from.is_stale(w)).await;
        // an update may have taken the listener away, or made the service speak another protocol
        let Some(renewed) = from.renewed(w) else { break Next::Drop };
        from = renewed;
        let next = match got {
            Ok((head, bytes)) => one(w, &mut client, &from, &head, bytes).await,
            Err(NoHead::Changed) => Next::Keep,
            Err(NoHead::Over) => break Next::Drop,
            Err(NoHead::Refused(r)) => break refuse(w, &mut client, &from, r).await,
        };
        match next {
            Next::Keep if !w.draining() => {}
            other => break other,
        }
    };
    finish(client, how).await;
}

/// Answers what is not a request.
async fn refuse(w: &Worker, client: &mut Client, from: &Origin, r: Refused) -> Next {
    Answer::refused(r).write(client.stream.out(), Sender::App, true, false);
    let sent = client.flush().await;
    record(
        w,
        &from.local,
        &Ended {
            reporter: Reporter::Source,
            handle: from.local.handle(&w.metrics, Reporter::Source, from.caller, from.service),
            source: from.caller_name(),
            destination: from.service_name(),
            endpoint: "",
            method: b"OTHER",
            path: b"",
            code: r.status,
            flags: Flag::BadRequest.into(),
            origin: "",
            began_ns: w.clock.now_ns(),
            attempts: 0,
            trace: b"",
        },
    );
    if sent.is_ok() { Next::Linger } else { Next::Drop }
}

/// What a request's stages leave for its record.
struct Notes<'a> {
    began_ns: u64,
    code: u16,
    flags: Flags,
    origin: &'a str,
    destination: ServiceId,
    endpoint: &'a str,
    attempts: u32,
    /// Served by an instance of this host: both sides are ours to report.
    here: bool,
}

impl Notes<'_> {
    fn new(destination: ServiceId, began_ns: u64) -> Self {
        Notes { began_ns, code: 0, flags: Flags::NONE, origin: "", destination, endpoint: "", attempts: 0, here: false }
    }
}

/// One request, from its head to its end.
async fn one(w: &Rc<Worker>, client: &mut Client, from: &Origin, head: &RequestHead, bytes: HeadBytes) -> Next {
    let began_ns = w.clock.now_ns();
    let mut normal = Vec::new();
    let path = match normalize(head.path(&bytes), &mut normal) {
        Ok(Normal::Same) => None,
        Ok(Normal::Changed) => Some(&normal[..]),
        Err(r) => return refuse(w, client, from, r).await,
    };
    let view = RequestView {
        method: head.method.of(&bytes),
        path: path.unwrap_or(head.path(&bytes)),
        query: head.query.of(&bytes),
        host: head.host.of(&bytes),
        headers: HeaderLines::Head(head.headers.of(&bytes)),
    };
    let trace = trace(w, from, head, &bytes);
    let mut notes = Notes::new(from.service, began_ns);
    let mut body = Body::new(head.framing, KEPT_BODY);
    let tables = from.local.tables();
    // where to: the first rule that fits, then one leg of its split
    let outcome = match route(tables, from.service, Some(from.caller), &view, || w.random.next()) {
        Routed::UnknownService => Outcome::Answer(Answer::unknown_service(from.service_name())),
        Routed::NoRule => Outcome::Answer(Answer::no_rule(from.service_name())),
        Routed::To(d) => {
            notes.origin = &d.rule.origin;
            notes.destination = d.leg.service;
            from.local.hit(from.service, d.rule_index);
            if let Some(why) = &d.leg.broken {
                Outcome::Answer(Answer::broken(&tables.service(d.leg.service).name, why))
            } else if let Some(spoiled) = spoil(w, client, from, &d, &view, &mut notes).await {
                spoiled
            } else {
                let request = Request { view: &view, head, bytes: &bytes, path, trace: &trace };
                carry(w, client, from, &d, request, &mut body, &mut notes).await
            }
        }
    };
    let next = conclude(client, head, &mut body, outcome, &mut notes).await;
    report(w, from, &view, &notes, &trace);
    next
}

fn report(w: &Worker, from: &Origin, view: &RequestView<'_>, notes: &Notes<'_>, trace: &TraceParent) {
    let handle = |side| from.local.handle(&w.metrics, side, from.caller, notes.destination);
    let mut ended = Ended {
        reporter: Reporter::Source,
        handle: handle(Reporter::Source),
        source: from.caller_name(),
        destination: &from.local.tables().service(notes.destination).name,
        endpoint: notes.endpoint,
        method: view.method,
        path: view.path,
        code: notes.code,
        flags: notes.flags,
        origin: notes.origin,
        began_ns: notes.began_ns,
        attempts: notes.attempts,
        trace: trace.trace_id(),
    };
    record(w, &from.local, &ended);
    if notes.here {
        ended.reporter = Reporter::Destination;
        ended.handle = handle(Reporter::Destination);
        record(w, &from.local, &ended);
    }
}

/// The trace that the request belongs to; a new span for this hop.
#[inline]
fn trace(w: &Worker, from: &Origin, head: &RequestHead, bytes: &[u8]) -> TraceParent {
    match head.traceparent.and_then(|s| TraceParent::parse(s.of(bytes))) {
        Some(t) => t.child(|| w.random.next()),
        None => {
            let share = from.local.tables().settings.as_ref().map_or(0, |s| s.trace_sampling);
            let sampled = share > 0 && w.random.next() % 10_000 < u64::from(share);
            TraceParent::create(|| w.random.next(), sampled)
        }
    }
}

/// A delay of at least `ms`; true: the client has gone meanwhile.
async fn waits_in_vain(client: &mut Client, ms: u64) -> bool {
    // the coarse clock may stand up to a tick back: never shorter than what was asked for
    client.deadline.arm(ms + TICK_MS);
    poll_fn(|cx| {
        if client.poll_gone(cx) {
            return Poll::Ready(true);
        }
        if client.deadline.fired() { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Injects the faults of the leg's service. Some: the request ends here.
async fn spoil<'t>(
    w: &Rc<Worker>,
    client: &mut Client,
    from: &'t Origin,
    d: &Decision<'t>,
    view: &RequestView<'_>,
    notes: &mut Notes<'t>,
) -> Option<Outcome<'t>> {
    let service = from.local.tables().service(d.leg.service);
    if service.routes.faults.is_empty() {
        return None;
    }
    let injected =
        fault::decide(&service.routes.faults, Some(from.caller), view, w.clock.unix_ms(), || w.random.next());
    injected.origins().for_each(|origin| w.metrics.rule(origin, 1));
    if let Some((ms, origin)) = injected.delay_ms {
        notes.flags = notes.flags.with(Flag::FaultDelay);
        notes.origin = origin;
        if ms > 0 && waits_in_vain(client, ms).await {
            return Some(Outcome::Gone);
        }
    }
    let (abort, origin) = injected.abort?;
    notes.origin = origin;
    notes.flags = notes.flags.with(Flag::FaultAbort);
    Some(match abort {
        Abort::Status(status) => Outcome::Answer(Answer::fault(status, &service.name)),
        Abort::Reset => Outcome::Reset,
    })
}

/// Tries until there is a response that is sent on, or none to be had.
#[expect(
    clippy::too_many_arguments,
    reason = "each is borrowed apart: a struct of them would tie their lives together"
)]
#[inline]
async fn carry<'t>(
    w: &Rc<Worker>,
    client: &mut Client,
    from: &'t Origin,
    d: &Decision<'t>,
    mut request: Request<'_>,
    body: &mut Body,
    notes: &mut Notes<'t>,
) -> Outcome<'t> {
    let mut rewritten = Vec::new();
    if d.rule.prefix_rewrite.is_some() {
        match rewrite(d.rule, request.view.path, &mut rewritten) {
            Ok(true) => request.path = Some(&rewritten),
            Ok(false) => {}
            Err(r) => return Outcome::Answer(Answer::refused(r)),
        }
    }
    // the peer that answers must stay one that is trusted, an instance of this host one that may be called
    let here = Cell::new(None);
    let still = |s: Option<&Session>| {
        let now = w.local();
        let keys = &now.snap.keys;
        let trusted =
            keys.same_trust(&from.local.snap.keys) || s.is_none_or(|s| Accepted::still_trusted(s, keys, Usage::Server));
        trusted && here.get().is_none_or(|name| permitted_here(now.tables(), name, from, request.view))
    };
    let mut guard = Guard::new(&w.clock, from.generation(), &still, d.rule.timeout_ms);
    let mut a = Attempts::new(w, from, d, request, &here);
    let outcome = a.run(client, body, &mut guard).await;
    notes.endpoint = a.endpoint_name();
    notes.attempts = a.tries();
    notes.here = a.served_here();
    notes.flags = notes.flags.with_all(a.flags());
    outcome
}

/// Whether the caller may do this with an instance of this host, by the tables of now.
fn permitted_here(now: &Tables, instance: &str, from: &Origin, view: &RequestView<'_>) -> bool {
    let Some(inbound) = now.inbound_id(instance).map(|i| now.inbound(i)) else { return false };
    authorize::request(&inbound.permissions, Caller::local(from.caller_name()), view).allowed
}

/// Says what is to be said to the client, and what becomes of the connection.
async fn conclude(
    client: &mut Client,
    head: &RequestHead,
    body: &mut Body,
    outcome: Outcome<'_>,
    notes: &mut Notes<'_>,
) -> Next {
    match outcome {
        Outcome::Relayed { status, keep } => {
            notes.code = status;
            if keep { Next::Keep } else { Next::Linger }
        }
        Outcome::BrokenOff { status, stop } => {
            notes.code = status;
            notes.flags = notes.flags.with(match stop {
                None | Some(Stop::Cut) => Flag::UpstreamClosed,
                Some(Stop::Gone) => Flag::ClientClosed,
                Some(Stop::Deadline) => Flag::Timeout,
            });
            // to HTTP/1.0 the end of the connection may be the end of the body: only a reset says that it is not
            if head.http10 { Next::Reset } else { Next::Drop }
        }
        Outcome::Gone => {
            notes.flags = notes.flags.with(Flag::ClientClosed);
            Next::Drop
        }
        Outcome::Reset => Next::Reset,
        Outcome::Answer(a) => {
            notes.code = a.status;
            notes.flags = notes.flags.with(a.flag);
            super::answer(client, head, body, &a, Sender::App).await
        }
    }
}
