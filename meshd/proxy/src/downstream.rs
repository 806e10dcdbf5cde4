//! The accepted side of a connection: stream, buffers, deadline, and the reading of request heads.

use crate::clock::Deadline;
use crate::http1::head::{RequestHead, request};
use crate::http1::{HeadScan, Refused, Sender};
use crate::stream::{Buf, Stream, give, lend};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// From the first byte (on a new connection: from accept) to a complete head.
pub const HEAD_MS: u64 = 10_000;
/// Between requests.
pub const IDLE_MS: u64 = 60_000;
/// What is read ahead of a request that is still being answered; beyond it the client waits.
const AHEAD: usize = 64 * 1024;
/// How long, and how much, is read from a client whose request was refused, so that it gets to see the answer.
const LINGER_MS: u64 = 1_000;
const LINGER_BYTES: usize = 256 * 1024;

pub struct Client {
    pub stream: Stream,
    pub buf: Buf,
    pub deadline: Deadline,
    fresh: bool,
}

/// A request's head, kept until the request ends: it is forwarded, replayed and decided on again.
pub struct HeadBytes(Vec<u8>);

impl std::ops::Deref for HeadBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for HeadBytes {
    fn drop(&mut self) {
        give(&mut self.0);
    }
}

/// Why there is no next request.
pub enum NoHead {
    /// The client is done, or has been idle for too long.
    Over,
    /// Nothing came, and the tables changed.
    Changed,
    Refused(Refused),
}

impl Client {
    pub fn new(stream: Stream, deadline: Deadline) -> Client {
        Client { stream, buf: Buf::new(), deadline, fresh: true }
    }

    /// Reads the next request's head; leaves off while the connection is idle and `changed` says so.
    #[inline]
    pub async fn next_head(
        &mut self,
        sender: Sender,
        changed: impl Fn() -> bool,
    ) -> Result<(RequestHead, HeadBytes), NoHead> {
        let mut scan = HeadScan::default();
        let mut timed = self.fresh;
        self.deadline.arm(if timed { HEAD_MS } else { IDLE_MS });
        loop {
            if !self.buf.is_empty() {
                if scan.ready(self.buf.data())
                    && let Some(h) = request(self.buf.data(), sender).map_err(NoHead::Refused)?
                {
                    let mut bytes = HeadBytes(lend());
                    bytes.0.extend_from_slice(&self.buf.data()[..h.len]);
                    self.buf.consume(h.len);
                    self.fresh = false;
                    return Ok((h, bytes));
                }
                if !std::mem::replace(&mut timed, true) {
                    self.deadline.arm(HEAD_MS);
                }
            }
            let begun = !self.buf.is_empty();
            let n = poll_fn(|cx| match self.stream.poll_fill(cx, &mut self.buf) {
                Poll::Ready(r) => Poll::Ready(r.map_err(|_| NoHead::Over)),
                Poll::Pending if self.deadline.fired() => Poll::Ready(Err(if begun {
                    NoHead::Refused(Refused { status: 408, reason: "request head took too long" })
                } else {
                    NoHead::Over
                })),
                Poll::Pending if !begun && changed() => Poll::Ready(Err(NoHead::Changed)),
                Poll::Pending => Poll::Pending,
            })
            .await?;
            if n == 0 {
                return Err(NoHead::Over);
            }
        }
    }

    /// Whether the client went away; what it sends meanwhile is kept for later.
    #[inline]
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.buf.len() < AHEAD {
            match self.stream.poll_fill(cx, &mut self.buf) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return true,
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Seals and flushes what was put into the stream, unless the client does not read it in time.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.seal()?;
        poll_fn(|cx| match self.stream.poll_flush(cx) {
            Poll::Pending if self.deadline.fired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            r => r,
        })
        .await
    }

    /// Ends the connection so that the client sees all that was sent, even if it is still sending.
    pub async fn linger(mut self) {
        self.deadline.arm(LINGER_MS);
        self.stream.finish();
        if self.flush().await.is_err() {
            return;
        }
        self.stream.shut();
        let mut left = LINGER_BYTES;
        while left > 0 {
            let n = poll_fn(|cx| match self.stream.poll_fill(cx, &mut self.buf) {
                Poll::Ready(r) => Poll::Ready(r.unwrap_or(0)),
                Poll::Pending if self.deadline.fired() => Poll::Ready(0),
                Poll::Pending => Poll::Pending,
            })
            .await;
            if n == 0 {
                return;
            }
            self.buf.consume(n);
            left = left.saturating_sub(n);
        }
    }
}
