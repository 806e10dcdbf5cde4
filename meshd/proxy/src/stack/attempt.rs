//! The tries of one request: an endpoint, a stream, an exchange, and what a failure leads to.

mod reach;

use super::upstream::Origin;
use crate::config;
use crate::config::frames::Reporter;
use crate::connect::Upstream;
use crate::downstream::Client;
use crate::error::{Answer, Fault, Flag};
use crate::exchange::http::{BrokenOff, Call, Failure};
use crate::exchange::{Body, Guard, Stop};
use crate::headers::build::{self, ForwardRequest};
use crate::headers::trace::TraceParent;
use crate::http1::head::RequestHead;
use crate::http1::response::ResponseHead;
use crate::metrics::{Flags, Outcome as Counted};
use crate::retry::{self, Failed};
use crate::route::Decision;
use crate::route::matching::RequestView;
use crate::snapshot::SharedService;
use crate::tables::EndpointId;
use crate::worker::{Endpoint, Local, Worker};
use std::cell::Cell;
use std::rc::Rc;

/// How a request ended.
pub enum Outcome<'t> {
    /// A response was sent on whole.
    Relayed {
        status: u16,
        keep: bool,
    },
    /// A response was begun and broke off.
    BrokenOff {
        status: u16,
        stop: Option<Stop>,
    },
    /// The client went away before a response.
    Gone,
    /// The connection is to be reset.
    Reset,
    Answer(Answer<'t>),
}

/// How one try ended.
enum Tried<'t> {
    Done(Outcome<'t>),
    Failed(Failed),
    /// Failed, and the next try is taken from the budget already.
    Again,
}

/// What a request is, in its parts.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    pub view: &'r RequestView<'r>,
    pub head: &'r RequestHead,
    pub bytes: &'r [u8],
    /// To send in place of the path that came.
    pub path: Option<&'r [u8]>,
    pub trace: &'r TraceParent,
}

pub struct Attempts<'r, 't> {
    w: &'r Worker,
    from: &'t Origin,
    local: &'t Local,
    decision: &'r Decision<'t>,
    request: Request<'r>,
    upstream: &'t config::Upstream,
    idempotent: bool,
    tries: u32,
    last: Option<EndpointId>,
    flags: Flags,
    exhausted: bool,
    /// The instance of this host that is called.
    here: &'r Cell<Option<&'t str>>,
}

impl<'r, 't> Attempts<'r, 't> {
    pub fn new(
        w: &'r Worker,
        from: &'t Origin,
        decision: &'r Decision<'t>,
        request: Request<'r>,
        here: &'r Cell<Option<&'t str>>,
    ) -> Self {
        let local: &'t Local = &from.local;
        Attempts {
            w,
            from,
            local,
            decision,
            request,
            upstream: local.tables().service(decision.leg.service).upstream_for(Some(from.caller)),
            idempotent: retry::is_idempotent(request.view.method),
            tries: 0,
            last: None,
            flags: Flags::NONE,
            exhausted: false,
            here,
        }
    }

    pub fn tries(&self) -> u32 {
        self.tries
    }

    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// The last try went to an instance of this host.
    pub fn served_here(&self) -> bool {
        self.here.get().is_some()
    }

    pub fn endpoint_name(&self) -> &'t str {
        self.last.map_or("", |id| &self.local.tables().endpoint(id).name)
    }

    fn service_name(&self) -> &'t str {
        &self.local.tables().service(self.decision.leg.service).name
    }

    fn shared(&self) -> Option<&'t SharedService> {
        self.local.snap.services.get(self.decision.leg.service.index()).map(|s| &**s)
    }

    /// Tries until there is an outcome.
    #[inline]
    pub async fn run(&mut self, client: &mut Client, body: &mut Body, guard: &mut Guard<'_>) -> Outcome<'t> {
        if let Some(s) = self.shared() {
            s.budget.request();
        }
        loop {
            // where: another endpoint than the one that failed, if there is one
            let Some(id) =
                self.local.balance.pick(self.decision.leg, self.last, self.w.random.next(), self.w.clock.now_ns())
            else {
                return Outcome::Answer(Answer::no_endpoint(self.service_name()));
            };
            let Some(state) = self.local.balance.endpoint(id) else { return Outcome::Gone };
            self.tries += 1;
            self.last = Some(id);
            match self.on(id, state, client, body, guard).await {
                Tried::Done(o) => return o,
                Tried::Again => {}
                Tried::Failed(f) if self.again(f, body) => {}
                Tried::Failed(f) => return Outcome::Answer(self.give_up(f)),
            }
        }
    }

    /// Whether a failed try is followed by another; takes it from the budget.
    fn again(&mut self, failed: Failed, body: &Body) -> bool {
        let rule = &self.decision.rule.retry;
        if rule.attempts == 0 || !retry::wanted(rule, self.idempotent, failed) || !body.replayable() {
            return false;
        }
        let now_s = self.w.clock.coarse_ms() / 1000;
        let may = self.tries <= rule.attempts
            && self.shared().is_some_and(|s| s.budget.take(rule.budget_percent, rule.budget_min_per_second, now_s));
        if !may {
            self.exhausted = true;
            self.flags = self.flags.with(Flag::RetriesExhausted);
        }
        may
    }

    fn give_up(&mut self, failed: Failed) -> Answer<'t> {
        let service = self.service_name();
        match failed {
            Failed::Timeout => Answer::timeout(service),
            Failed::Connect => {
                self.flags = self.flags.with(Flag::ConnectFailure);
                if self.exhausted { Answer::retries_exhausted(service) } else { Answer::connect_failure(service) }
            }
            _ if self.exhausted => Answer::retries_exhausted(service),
            _ => Answer::upstream_closed(service),
        }
    }

    /// One try on one endpoint, with its place in the balancer.
    async fn on(
        &mut self,
        id: EndpointId,
        state: &Rc<Endpoint>,
        client: &mut Client,
        body: &mut Body,
        guard: &mut Guard<'_>,
    ) -> Tried<'t> {
        self.here.set(None);
        state.ewma.begin();
        let mut latency = None;
        let tried = self.exchange(id, client, body, guard, &mut latency).await;
        state.ewma.end(latency, self.w.clock.now_ns());
        tried
    }

    async fn exchange(
        &mut self,
        id: EndpointId,
        client: &mut Client,
        body: &mut Body,
        guard: &mut Guard<'_>,
        latency: &mut Option<u64>,
    ) -> Tried<'t> {
        let _place = match self.enter(id) {
            Ok(place) => place,
            Err(answer) => return Tried::Done(Outcome::Answer(answer)),
        };
        let mut fresh = false;
        loop {
            let mut up = match self.acquire(id, fresh, client, guard).await {
                Ok(up) => up,
                Err(tried) => return tried,
            };
            let began = self.w.clock.now_ns();
            self.write_head(&mut up);
            let mut call = Call::new(client, self.request.head, body, guard, self.decision.rule.per_try_timeout_ms);
            match call.send(&mut up).await {
                Ok(h) => {
                    *latency = Some(self.w.clock.now_ns().saturating_sub(began));
                    return self.respond(id, call, up, &h).await;
                }
                // it was idle and the other side had enough of it: that says nothing about the endpoint
                Err(Failure::Reset { any: false }) if up.reused && !fresh && self.idempotent && body.replayable() => {
                    fresh = true
                }
                Err(f) => return self.no_head(id, f, guard),
            }
        }
    }

    #[inline]
    fn write_head(&self, up: &mut Upstream) {
        let (rule, leg, r) = (self.decision.rule, self.decision.leg, &self.request);
        let source = if self.served_here() {
            self.local.tables().identity(self.from.instance()).map(|i| i.spiffe.as_str())
        } else {
            None
        };
        let how = ForwardRequest {
            path: r.path,
            edits: [rule.request_headers.as_ref(), leg.request_headers.as_ref()],
            traceparent: Some(r.trace),
            source,
            attempt: if self.served_here() || up.stream.session().is_none() {
                0
            } else {
                (self.tries - 1).min(255) as u8
            },
            close: false,
        };
        build::request(up.stream.out(), r.bytes, r.head, &how);
    }

    /// A response head came: is it a failure, is there another try, or is it sent on.
    #[inline]
    async fn respond(
        &mut self,
        id: EndpointId,
        mut call: Call<'_, '_>,
        mut up: Upstream,
        h: &ResponseHead,
    ) -> Tried<'t> {
        let marked = h.answer.and_then(|s| Flag::parse(s.of(up.buf.data())));
        match marked {
            None if h.status < 500 => self.succeeded(id),
            None => self.failed(id, Counted::ErrorStatus, false),
            Some(f) if f.fault() == Fault::Upstream => self.failed(id, Counted::Peer503, false),
            Some(_) if h.status == 503 => self.count(Counted::Peer503),
            // a denial, a refusal: the peer is well, the request was not
            Some(_) => self.count(Counted::ErrorStatus),
        }
        if h.status >= 400 && self.again(Failed::Status { status: h.status, marked }, call.body) {
            return Tried::Again;
        }
        if let Some(f) = marked {
            self.flags = self.flags.with(f);
        }
        let edits = [self.decision.rule.response_headers.as_ref(), self.decision.leg.response_headers.as_ref()];
        let status = h.status;
        Tried::Done(match call.relay(&mut up, h, edits, self.w.draining()).await {
            Ok(e) => {
                if e.keep_upstream {
                    up.release(self.w.clock.coarse_ms() + self.upstream.idle_timeout_ms);
                }
                Outcome::Relayed { status, keep: e.keep_client }
            }
            Err(BrokenOff::Upstream) => {
                self.failed(id, Counted::Reset, false);
                Outcome::BrokenOff { status, stop: None }
            }
            Err(BrokenOff::Stopped(s)) => Outcome::BrokenOff { status, stop: Some(s) },
        })
    }

    /// There is no response head.
    fn no_head(&mut self, id: EndpointId, f: Failure, guard: &Guard<'_>) -> Tried<'t> {
        match f {
            Failure::Stopped(Stop::Gone) => Tried::Done(Outcome::Gone),
            Failure::Refused(r) => Tried::Done(Outcome::Answer(Answer::refused(r))),
            Failure::Stopped(Stop::Deadline) => {
                self.failed(id, Counted::Timeout, false);
                if guard.is_over() {
                    Tried::Done(Outcome::Answer(Answer::timeout(self.service_name())))
                } else {
                    Tried::Failed(Failed::Timeout)
                }
            }
            // permission was taken away while it waited
            Failure::Stopped(Stop::Cut) if self.served_here() => {
                Tried::Done(Outcome::Answer(Answer::denied(self.service_name(), "", false)))
            }
            Failure::Bad => {
                self.failed(id, Counted::Reset, false);
                Tried::Done(Outcome::Answer(Answer::upstream_closed(self.service_name())))
            }
            Failure::Reset { .. } | Failure::Stopped(Stop::Cut) => {
                self.failed(id, Counted::Reset, false);
                Tried::Failed(Failed::Reset)
            }
        }
    }

    #[inline]
    fn count(&self, outcome: Counted) {
        let h = self.local.handle(&self.w.metrics, Reporter::Source, self.from.caller, self.decision.leg.service);
        self.w.metrics.attempt(h, outcome);
    }

    #[inline]
    fn succeeded(&self, id: EndpointId) {
        self.count(Counted::Success);
        self.local.balance.success(id, self.w.clock.coarse_ms());
    }

    fn failed(&self, id: EndpointId, outcome: Counted, could_not_connect: bool) {
        self.count(outcome);
        super::note_failure(self.w, self.local, id, &self.upstream.outlier, could_not_connect);
    }
}
