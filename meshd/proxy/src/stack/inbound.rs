//! Requests that come in over mTLS for an instance of this host.

use super::attempt::Outcome;
use super::record::{Ended, record};
use super::right::Right;
use super::{Next, finish};
use crate::authorize::{self, Caller};
use crate::config::frames::Reporter;
use crate::connect::{self, Target, Upstream};
use crate::downstream::{Client, HeadBytes, NoHead};
use crate::error::{Answer, Flag};
use crate::exchange::http::{BrokenOff, Call, Failure};
use crate::exchange::{Body, Guard, Stop};
use crate::headers::build::{self, ForwardRequest};
use crate::headers::trace::TraceParent;
use crate::http1::head::RequestHead;
use crate::http1::path::{Normal, normalize};
use crate::http1::{Refused, Sender};
use crate::metrics::{Flags, Handle};
use crate::retry;
use crate::route::matching::{HeaderLines, RequestView};
use crate::snapshot::Entered;
use crate::spiffe::Spiffe;
use crate::stream::Session;
use crate::tables::{Inbound, InboundId};
use crate::worker::{Local, Worker};
use std::rc::Rc;

/// Connections to the app are closed when idle for so long.
const APP_IDLE_MS: u64 = 60_000;

/// The instance that a connection is for, and who is at its other end.
pub struct Destination {
    pub right: Right,
    pub local: Rc<Local>,
    pub generation: u64,
    id: InboundId,
    /// Its marks are read and ours are sent.
    sender: Sender,
    pub handle: Handle,
    /// Its place among the instance's connections; None: there was none left.
    pub place: Option<Entered>,
}

impl Destination {
    /// `local` as of `generation`: what the peer was verified with. None: the instance takes no new work.
    pub fn new(
        w: &Worker,
        (local, generation): (&Rc<Local>, u64),
        id: InboundId,
        peer: Spiffe,
        proxy: bool,
    ) -> Option<Destination> {
        let inbound = local.tables().inbounds.get(id.index())?;
        let shared = local.snap.inbounds.get(id.index())?;
        if shared.is_draining() {
            return None;
        }
        let service = &local.tables().service(inbound.service).name;
        Some(Destination {
            generation,
            id,
            sender: if proxy { Sender::Peer } else { Sender::App },
            handle: w.metrics.handle(Reporter::Destination, peer.service().unwrap_or(""), service),
            place: shared.enter(inbound.max_connections),
            local: local.clone(),
            right: Right::new(local, &inbound.name, peer, inbound.protocol),
        })
    }

    #[inline]
    pub fn inbound(&self) -> &Inbound {
        self.local.tables().inbound(self.id)
    }

    pub fn service(&self) -> &str {
        &self.local.tables().service(self.inbound().service).name
    }

    fn draining(&self) -> bool {
        self.local.snap.inbounds.get(self.id.index()).is_none_or(|i| i.is_draining())
    }

    fn is_stale(&self, w: &Worker) -> bool {
        self.generation != w.clock.generation()
    }

    /// The same under the tables of now; None: the connection ends before another request.
    #[inline]
    fn renewed(mut self, w: &Worker, session: Option<&Session>) -> Option<Destination> {
        if !self.is_stale(w) {
            return Some(self);
        }
        if !self.right.still(w, session, |_, _| true) {
            return None;
        }
        let now = w.local();
        self.id = now.tables().inbound_id(&self.right.name)?;
        self.local = now;
        self.generation = w.clock.generation();
        Some(self)
    }
}

/// Serves requests until the connection ends.
pub async fn serve(w: &Rc<Worker>, mut client: Client, mut to: Destination) {
    let how = loop {
        // an idle connection whose right was taken away does not wait for its next request
        let got = client.next_head(to.sender, || to.is_stale(w)).await;
        let Some(renewed) = to.renewed(w, client.stream.session()) else { break Next::Drop };
        to = renewed;
        let next = match got {
            Ok((head, bytes)) => one(w, &mut client, &to, &head, bytes).await,
            Err(NoHead::Changed) => Next::Keep,
            Err(NoHead::Over) => break Next::Linger,
            Err(NoHead::Refused(r)) => break refuse(w, &mut client, &to, r).await,
        };
        match next {
            Next::Keep if !w.draining() && !to.draining() => {}
            other => break other,
        }
    };
    finish(client, how).await;
}

async fn refuse(w: &Worker, client: &mut Client, to: &Destination, r: Refused) -> Next {
    Answer::refused(r).write(client.stream.out(), to.sender, true, false);
    let sent = client.flush().await;
    let said = Said { code: r.status, flags: Flag::BadRequest.into(), ..Said::default() };
    note(w, to, (b"OTHER", b""), &said, w.clock.now_ns());
    if sent.is_ok() { Next::Linger } else { Next::Drop }
}

/// One request, from its head to its end.
async fn one(w: &Rc<Worker>, client: &mut Client, to: &Destination, head: &RequestHead, bytes: HeadBytes) -> Next {
    let began_ns = w.clock.now_ns();
    let mut normal = Vec::new();
    let path = match normalize(head.path(&bytes), &mut normal) {
        Ok(Normal::Same) => None,
        Ok(Normal::Changed) => Some(&normal[..]),
        Err(r) => return refuse(w, client, to, r).await,
    };
    let view = RequestView {
        method: head.method.of(&bytes),
        path: path.unwrap_or(head.path(&bytes)),
        query: head.query.of(&bytes),
        host: head.host.of(&bytes),
        headers: HeaderLines::Head(head.headers.of(&bytes)),
    };
    let (t, inbound) = (to.local.tables(), to.inbound());
    let mut body = Body::new(head.framing, retry::KEPT_BODY);
    let mut trace = None;
    // may it do this: the decision names its rule
    let verdict = authorize::request(&inbound.permissions, Caller::of(&to.right.peer, t.trust_domain()), &view);
    let outcome = if !verdict.allowed {
        super::denied(w, to.service(), verdict.origin, to.right.peer.as_str());
        let explain = t.settings.as_ref().is_some_and(|s| s.explain_denials);
        Outcome::Answer(Answer::denied(to.service(), verdict.origin, explain))
    } else if to.place.is_none() {
        Outcome::Answer(Answer::new(503, Flag::RateLimited, "too many connections", to.service()))
    } else {
        // what was allowed must stay allowed while it runs
        let still = |s: Option<&Session>| to.right.still(w, s, |p, c| authorize::request(p, c, &view).allowed);
        let mut guard = Guard::new(&w.clock, to.generation, &still, inbound.request_timeout_ms);
        let parent = head.traceparent.and_then(|s| TraceParent::parse(s.of(&bytes)));
        trace = Some(
            parent.map_or_else(|| TraceParent::create(|| w.random.next(), false), |p| p.child(|| w.random.next())),
        );
        let how = ForwardRequest {
            path,
            traceparent: trace.as_ref(),
            source: Some(to.right.peer.as_str()),
            ..ForwardRequest::default()
        };
        carry(w, client, to, (head, &bytes, &how), &mut body, &mut guard).await
    };
    let (code, flags, next) = conclude(client, head, &mut body, outcome, to.sender).await;
    let trace = trace.as_ref().map_or(&[][..], |t| t.trace_id());
    note(w, to, (view.method, view.path), &Said { code, flags, origin: verdict.origin, trace }, began_ns);
    next
}

/// Sends the request to the app and the response back. A kept-alive connection that the app had closed is replaced
/// once, where that is safe.
async fn carry<'t>(
    w: &Worker,
    client: &mut Client,
    to: &'t Destination,
    (head, bytes, how): (&RequestHead, &[u8], &ForwardRequest<'_>),
    body: &mut Body,
    guard: &mut Guard<'_>,
) -> Outcome<'t> {
    let mut fresh = false;
    loop {
        let mut up = match acquire(client, to, fresh, guard).await {
            Ok(up) => up,
            Err(o) => return o,
        };
        build::request(up.stream.out(), bytes, head, how);
        let mut call = Call::new(client, head, body, guard, 0);
        match call.send(&mut up).await {
            Ok(h) => {
                let status = h.status;
                return match call.relay(&mut up, &h, [None, None], w.draining() || to.draining()).await {
                    Ok(e) => {
                        if e.keep_upstream {
                            up.release(w.clock.coarse_ms() + APP_IDLE_MS);
                        }
                        Outcome::Relayed { status, keep: e.keep_client }
                    }
                    Err(BrokenOff::Upstream) => Outcome::BrokenOff { status, stop: None },
                    Err(BrokenOff::Stopped(s)) => Outcome::BrokenOff { status, stop: Some(s) },
                };
            }
            Err(Failure::Reset { any: false })
                if up.reused && !fresh && body.replayable() && retry::is_idempotent(head.method.of(bytes)) =>
            {
                fresh = true
            }
            Err(f) => return no_head(f, to),
        }
    }
}

fn no_head<'t>(f: Failure, to: &'t Destination) -> Outcome<'t> {
    match f {
        Failure::Stopped(Stop::Gone) => Outcome::Gone,
        Failure::Refused(r) => Outcome::Answer(Answer::refused(r)),
        Failure::Stopped(Stop::Deadline) => Outcome::Answer(Answer::timeout(to.service())),
        // nothing was answered yet: it is told what every later request is told
        Failure::Stopped(Stop::Cut) => Outcome::Answer(Answer::denied(to.service(), "", false)),
        Failure::Bad | Failure::Reset { .. } => Outcome::Answer(Answer::upstream_closed(to.service())),
    }
}

/// A connection to the app: a pooled one, or a new one within the connect timeout.
async fn acquire<'t>(
    client: &mut Client,
    to: &'t Destination,
    fresh: bool,
    guard: &mut Guard<'_>,
) -> Result<Upstream, Outcome<'t>> {
    let Some(pool) = to.local.app_pool(to.id) else { return Err(Outcome::Gone) };
    if !fresh && let Some(up) = connect::pooled(pool, 0).await {
        return Ok(up);
    }
    guard.phase(&client.deadline, to.inbound().connect_timeout_ms);
    let target = Target::Plain(to.inbound().app);
    let opened = connect::unless(connect::open(&target, Some((pool, 0))), |cx| {
        guard.check(&client.deadline, client.stream.session()).or_else(|| client.poll_gone(cx).then_some(Stop::Gone))
    });
    match opened.await {
        Ok(Ok(up)) => Ok(up),
        Err(Stop::Gone) => Err(Outcome::Gone),
        Err(Stop::Cut) => Err(Outcome::Reset),
        Ok(Err(_)) | Err(Stop::Deadline) => Err(Outcome::Answer(Answer::connect_failure(to.service()))),
    }
}

async fn conclude(
    client: &mut Client,
    head: &RequestHead,
    body: &mut Body,
    outcome: Outcome<'_>,
    to: Sender,
) -> (u16, Flags, Next) {
    match outcome {
        Outcome::Relayed { status, keep } => (status, Flags::NONE, if keep { Next::Keep } else { Next::Linger }),
        Outcome::BrokenOff { status, stop } => {
            let flag = match stop {
                None => Flag::UpstreamClosed,
                Some(Stop::Gone) => Flag::ClientClosed,
                Some(Stop::Deadline) => Flag::Timeout,
                Some(Stop::Cut) => Flag::Denied,
            };
            (status, flag.into(), Next::Drop)
        }
        Outcome::Gone => (0, Flag::ClientClosed.into(), Next::Drop),
        Outcome::Reset => (0, Flag::Denied.into(), Next::Drop),
        Outcome::Answer(a) => (a.status, a.flag.into(), super::answer(client, head, body, &a, to).await),
    }
}

/// How a request ended.
#[derive(Default)]
struct Said<'a> {
    code: u16,
    flags: Flags,
    origin: &'a str,
    trace: &'a [u8],
}

fn note(w: &Worker, to: &Destination, (method, path): (&[u8], &[u8]), said: &Said<'_>, began_ns: u64) {
    let ended = Ended {
        reporter: Reporter::Destination,
        handle: to.handle,
        source: to.right.peer.service().unwrap_or(""),
        destination: to.service(),
        endpoint: &to.right.name,
        method,
        path,
        code: said.code,
        flags: said.flags,
        origin: said.origin,
        began_ns,
        attempts: 1,
        trace: said.trace,
    };
    record(w, &to.local, &ended);
}
