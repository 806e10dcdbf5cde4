//! Streams to endpoints: acquired, used for one exchange, released or dropped.
//!
//! A stream here is a pooled keep-alive HTTP/1.1 connection, over mTLS or plain. `balance` and `retry` know nothing
//! of it, so multiplexed links can take the pools' place behind the same three calls: `acquire`, `Upstream::release`
//! and drop (abort).

use crate::balance::Keep;
use crate::http1::Sender;
use crate::identity::Peering;
use crate::stream::{Buf, Stream};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::net::TcpStream;

/// Idle connections kept per pool.
const MAX_IDLE: usize = 256;

/// Where and how to connect.
pub enum Target<'a> {
    /// In plaintext: an app of this host, or an endpoint that is not meshed and may be called so.
    Plain(SocketAddr),
    /// To exactly one identity.
    Secured { address: SocketAddr, peering: Peering<'a>, alpn: &'static [u8] },
}

/// An open stream with what was read of it.
pub struct Upstream {
    pub stream: Stream,
    pub buf: Buf,
    /// It has served before: its end before a response may only mean that the other side was tired of it.
    pub reused: bool,
    pool: Option<(Rc<Pool>, u32)>,
    epoch: u32,
}

struct Idle {
    stream: Stream,
    until_ms: u64,
    caller: u32,
}

/// Idle connections to one endpoint, apart for each calling identity.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// Grows when pooled connections may no longer be used; those of an older epoch are not taken back.
    epoch: std::cell::Cell<u32>,
}

impl Pool {
    /// The connection used last by this caller that is still open.
    #[inline]
    fn take(self: &Rc<Self>, caller: u32, cx: &mut Context<'_>) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let mut i = idle.len();
        while i > 0 {
            i -= 1;
            if idle[i].caller == caller {
                let mut one = idle.swap_remove(i);
                if !one.stream.stale(cx) {
                    return Some(Upstream {
                        stream: one.stream,
                        buf: Buf::new(),
                        reused: true,
                        pool: Some((self.clone(), caller)),
                        epoch: self.epoch.get(),
                    });
                }
                i = i.min(idle.len());
            }
        }
        None
    }

    /// Closes what was idle for too long, and what the other side closed.
    pub fn sweep(&self, now_ms: u64) {
        let mut cx = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|c| c.until_ms > now_ms && !c.stream.stale(&mut cx));
    }

    /// Closes all, also those that are out now when they come back.
    pub fn clear(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.idle.borrow_mut().clear();
    }

    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }
}

impl Keep for Rc<Pool> {
    fn leave(&self) {
        self.clear();
    }
}

impl Upstream {
    /// Gives the stream back for another exchange; only when both directions ended cleanly and nothing is left over.
    /// It is closed when it is idle at `until_ms`.
    #[inline]
    pub fn release(self, until_ms: u64) {
        let Some((pool, caller)) = self.pool else { return };
        if !self.buf.is_empty() || self.stream.backlog() > 0 || pool.epoch.get() != self.epoch {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { stream: self.stream, until_ms, caller });
        }
    }

    /// Who answers here, as far as headers are concerned.
    #[inline]
    pub fn sender(&self) -> Sender {
        if self.stream.session().is_some() { Sender::Peer } else { Sender::App }
    }
}

/// A pooled stream of this caller, if one is fit.
#[inline]
pub async fn pooled(pool: &Rc<Pool>, caller: u32) -> Option<Upstream> {
    if pool.is_empty() {
        return None;
    }
    poll_fn(|cx| Poll::Ready(pool.take(caller, cx))).await
}

/// Opens a stream. `pool`: where `release` puts it, with its caller.
pub async fn open(target: &Target<'_>, pool: Option<(&Rc<Pool>, u32)>) -> io::Result<Upstream> {
    let stream = match target {
        Target::Plain(address) => Stream::plain(dial(*address).await?),
        Target::Secured { address, peering, alpn } => {
            let mut io = dial(*address).await?;
            let session = peering.connect(&mut io, alpn).await?;
            Stream::secured(io, session)
        }
    };
    let epoch = pool.map_or(0, |(p, _)| p.epoch.get());
    Ok(Upstream { stream, buf: Buf::new(), reused: false, pool: pool.map(|(p, c)| (p.clone(), c)), epoch })
}

/// A new connection, without a time limit.
pub async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let s = TcpStream::connect(address).await?;
    // what is one write is one segment: nothing to gather
    s.set_nodelay(true)?;
    if address.ip().is_loopback() {
        crate::listener::light(&socket2::SockRef::from(&s));
    }
    Ok(s)
}

/// Runs `f` unless `stop` says otherwise first; `stop` is asked at each wake-up of the task.
pub async fn unless<F: Future, E>(f: F, mut stop: impl FnMut(&mut Context<'_>) -> Option<E>) -> Result<F::Output, E> {
    let mut f = Box::pin(f);
    poll_fn(|cx| {
        if let Poll::Ready(v) = f.as_mut().poll(cx) {
            return Poll::Ready(Ok(v));
        }
        stop(cx).map_or(Poll::Pending, |e| Poll::Ready(Err(e)))
    })
    .await
}
