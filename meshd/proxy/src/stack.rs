//! The path, composed: what happens to a connection and to a request, one line and one reason per stage.
//!
//! Outbound (an app of this host calls): `listener` says whose connection it is · `route` picks rule and leg ·
//! `fault` may spoil it · `retry` decides how often · `balance` where · `connect` opens a stream · `exchange` carries.
//! Inbound (a proxy or a foreign client calls): `listener` · `identity` ends mTLS and names the peer · `authorize`
//! decides, at connect for TCP and per request for HTTP · `connect` reaches the app · `exchange` carries.
//! A call to an instance of this host passes `authorize` in-process, between `balance` and `connect`.

mod attempt;
mod inbound;
mod outbound;
mod record;
mod right;
mod tcp;
mod upstream;

use crate::clock::Deadline;
use crate::config::{self, Protocol};
use crate::downstream::Client;
use crate::error::Answer;
use crate::exchange::Body;
use crate::http1::Sender;
use crate::http1::head::RequestHead;
use crate::identity::{Accepted, accept};
use crate::stream::Stream;
use crate::tables::EndpointId;
use crate::worker::{Local, Open, Worker};
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::TcpStream;

/// From accept to the end of the handshake.
const HANDSHAKE_MS: u64 = 5_000;

/// What becomes of a client's connection after a request.
enum Next {
    Keep,
    /// All was said; close so that the client sees it.
    Linger,
    /// Close at once: a message was cut short and must not look whole.
    Drop,
    /// Close with a reset.
    Reset,
}

/// Serves a connection to an upstream listener; `name` is the listener's.
pub async fn outbound(w: Rc<Worker>, io: TcpStream, name: Rc<str>) {
    let _open = Open::new(&w);
    // whose connection it is: the listener belongs to one instance and one destination
    let Some(from) = upstream::Origin::of(&w, &name) else { return };
    let deadline = Deadline::of_task(&w.clock).await;
    if from.protocol() == Protocol::Tcp {
        // bytes: one leg, one endpoint, one connection
        tcp::outbound(&w, Stream::plain(io), deadline, from).await;
    } else {
        // requests: each one is routed, balanced and retried on its own
        outbound::serve(&w, Client::new(Stream::plain(io), deadline), from).await;
    }
}

/// Serves a connection to the inbound mTLS port.
pub async fn inbound(w: Rc<Worker>, mut io: TcpStream, from: SocketAddr) {
    let _open = Open::new(&w);
    let deadline = Deadline::of_task(&w.clock).await;
    deadline.arm(HANDSHAKE_MS);
    // what the handshake is judged by; when tables change meanwhile, it is judged again before anything is served
    let (local, generation) = (w.local(), w.clock.generation());
    // who is there: nothing is read as a request before both ends are verified; the callee's ALPN decides the protocol
    let shaken = crate::connect::unless(accept(&mut io, &local.snap.keys), |_| deadline.fired().then_some(())).await;
    let accepted = match shaken {
        Ok(Ok(a)) => a,
        failed => {
            let why = failed.map_or_else(
                |()| "handshake took too long".to_owned(),
                |r| r.err().map_or_else(String::new, |e| e.to_string()),
            );
            w.events.say("tls_failure", |e| e.detail = format!("{from}: {why}"));
            return;
        }
    };
    deadline.disarm();
    if accepted.is_probe() {
        return probed(&local, io, accepted, deadline).await;
    }
    let Accepted { session, inbound, peer, proxy } = accepted;
    let Some(to) = inbound::Destination::new(&w, (&local, generation), inbound, peer.spiffe, proxy) else { return };
    drop(local);
    let stream = Stream::secured(io, session);
    if to.right.protocol == Protocol::Tcp {
        // may it connect: TCP has nothing else to decide on
        tcp::inbound(&w, stream, deadline, to).await;
    } else {
        // may it do this: every request is decided on its own
        inbound::serve(&w, Client::new(stream, deadline), to).await;
    }
}

/// Somebody asked only whether this instance is here. That both ends are who they should be is the answer: a clean end
/// says it, nothing is counted or logged, and the app hears nothing of it. One that drains is not for new requests.
async fn probed(local: &Local, io: TcpStream, a: Accepted, deadline: Deadline) {
    if local.snap.inbounds.get(a.inbound.index()).is_some_and(|i| !i.is_draining()) {
        Client::new(Stream::secured(io, a.session), deadline).linger().await;
    }
}

/// Ends a connection as its last request demands.
async fn finish(client: Client, how: Next) {
    match how {
        Next::Keep | Next::Linger => client.linger().await,
        Next::Drop => {}
        Next::Reset => client.stream.reset(),
    }
}

/// Sends the proxy's own answer. The connection stays only if the request's body is over: what is left of it would be
/// read as the next request.
async fn answer(client: &mut Client, head: &RequestHead, body: &mut Body, a: &Answer<'_>, to: Sender) -> Next {
    let keep = body.skip_buffered(client) && !head.close;
    client.deadline.arm(crate::downstream::HEAD_MS);
    a.write(client.stream.out(), to, !keep, head.is_head);
    match client.flush().await {
        Err(_) => Next::Drop,
        Ok(()) if keep => Next::Keep,
        Ok(()) => Next::Linger,
    }
}

/// Tells who was refused by what.
fn denied(w: &Worker, service: &str, origin: &str, caller: &str) {
    w.metrics.denied(origin);
    w.events.say("denied", |e| {
        e.service = service.into();
        e.origin = origin.into();
        e.detail = caller.into();
    });
}

/// Notes a failure of an endpoint, and tells if that ejects it.
fn note_failure(w: &Worker, local: &Local, id: EndpointId, outlier: &config::Outlier, could_not_connect: bool) {
    let (now, endpoint) = (w.clock.coarse_ms(), local.tables().endpoint(id));
    let tell = |kind: &str, detail: String| {
        w.events.say(kind, |e| {
            e.service = local.tables().service(endpoint.service).name.to_string();
            e.endpoint = endpoint.name.to_string();
            e.detail = detail;
        });
    };
    if could_not_connect && local.balance.unreachable(&local.snap, id, now) {
        tell("suspect_bad", "a request could not connect".into());
    }
    if let Some(ms) = local.balance.failure(&local.snap, id, outlier, now) {
        tell("ejected", format!("for {ms} ms"));
    }
}
