//! One HTTP/1.1 exchange on an open upstream: the request goes, the response comes, both may stream at once.

use super::body::{Body, Broken, Sent};
use super::{BODY_IDLE_MS, Guard, PIECE, Stop};
use crate::connect::Upstream;
use crate::downstream::Client;
use crate::headers::build::{self, Body as Mode, ForwardResponse};
use crate::headers::edit::Edits;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::http1::response::{ResponseHead, response};
use crate::http1::{HeadScan, Refused};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// Why there is no response head. Nothing of a final response was sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The upstream's connection ended; `any`: after some bytes of a head.
    Reset {
        any: bool,
    },
    /// Not a response.
    Bad,
    /// The request's body is none, or does not come: the client's fault.
    Refused(Refused),
    Stopped(Stop),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Failure {
        match broken {
            Broken::Gone => Failure::Stopped(Stop::Gone),
            Broken::Bad(refused) => Failure::Refused(refused),
        }
    }
}

/// How a response ended for both connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub keep_upstream: bool,
    pub keep_client: bool,
}

/// A response that broke off after its head was sent: both connections are useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenOff {
    Upstream,
    Stopped(Stop),
}

/// One exchange.
pub struct Call<'a, 'g> {
    pub client: &'a mut Client,
    pub request: &'a RequestHead,
    pub body: &'a mut Body,
    pub guard: &'a mut Guard<'g>,
    /// How long a response head may take, 0: as long as the whole.
    pub try_ms: u64,
    sent: Option<Sent>,
}

impl<'a, 'g> Call<'a, 'g> {
    pub fn new(
        client: &'a mut Client,
        request: &'a RequestHead,
        body: &'a mut Body,
        guard: &'a mut Guard<'g>,
        try_ms: u64,
    ) -> Self {
        Call { client, request, body, guard, try_ms, sent: None }
    }

    /// Sends the head that `up.stream.out()` holds and the body; returns with the response's head, or why not.
    #[inline]
    pub async fn send(&mut self, up: &mut Upstream) -> Result<ResponseHead, Failure> {
        self.body.begin(self.client, &mut up.stream)?;
        if up.stream.seal().is_err() {
            return Err(Failure::Reset { any: false });
        }
        self.body.has_moved();
        self.guard.phase(&self.client.deadline, if self.body.is_done() { self.try_ms } else { BODY_IDLE_MS });
        let (mut scan, sender) = (HeadScan::default(), up.sender());
        loop {
            if !up.buf.is_empty() && scan.ready(up.buf.data()) {
                match response(up.buf.data(), sender, self.request.is_head) {
                    Ok(Some(h)) if h.is_interim() => {
                        self.interim(up, &h).await?;
                        scan = HeadScan::default();
                        continue;
                    }
                    Ok(Some(h)) => return Ok(h),
                    Ok(None) => {}
                    Err(_) => return Err(Failure::Bad),
                }
            }
            poll_fn(|cx| self.poll_head(cx, up)).await?;
        }
    }

    #[inline]
    fn poll_head(&mut self, cx: &mut Context<'_>, up: &mut Upstream) -> Poll<Result<(), Failure>> {
        self.poll_body(cx, up)?;
        if self.body.has_moved() {
            self.guard.phase(&self.client.deadline, if self.body.is_done() { self.try_ms } else { BODY_IDLE_MS });
        }
        let any = !up.buf.is_empty();
        match up.stream.poll_fill(cx, &mut up.buf) {
            Poll::Ready(Ok(n)) if n > 0 => return Poll::Ready(Ok(())),
            Poll::Ready(_) => return Poll::Ready(Err(Failure::Reset { any })),
            Poll::Pending => {}
        }
        if let Some(s) = self.guard.check(&self.client.deadline, up.stream.session().or(self.client.stream.session())) {
            // a body that does not come is the client's fault; one that is not taken is the upstream's
            let stalled = s == Stop::Deadline && !self.body.is_done() && up.stream.backlog() == 0;
            let slow = Refused { status: 408, reason: "request body took too long" };
            return Poll::Ready(Err(if stalled { Failure::Refused(slow) } else { Failure::Stopped(s) }));
        }
        // a client that went away has its request cancelled at once
        if self.body.is_done() && self.client.poll_gone(cx) {
            return Poll::Ready(Err(Failure::Stopped(Stop::Gone)));
        }
        Poll::Pending
    }

    /// Moves the request body on; an error is the client's.
    #[inline]
    fn poll_body(&mut self, cx: &mut Context<'_>, up: &mut Upstream) -> Result<(), Broken> {
        if self.sent.is_none()
            && let Poll::Ready(r) = self.body.poll(cx, self.client, &mut up.stream)
        {
            self.sent = Some(r?);
        }
        Ok(())
    }

    async fn interim(&mut self, up: &mut Upstream, h: &ResponseHead) -> Result<(), Failure> {
        if !self.request.http10 {
            build::response(self.client.stream.out(), up.buf.data(), h, &ForwardResponse::default());
            if self.client.flush().await.is_err() {
                return Err(Failure::Stopped(Stop::Gone));
            }
        }
        up.buf.consume(h.len);
        Ok(())
    }

    /// Sends the response on: head and first bytes in one write, then the body as both sides take it.
    #[inline]
    pub async fn relay(
        &mut self,
        up: &mut Upstream,
        h: &ResponseHead,
        edits: [Option<&Edits>; 2],
        leaving: bool,
    ) -> Result<Ended, BrokenOff> {
        let mode = match (h.framing, self.request.http10) {
            (Framing::UntilClose, false) => Mode::Chunked,
            (Framing::Chunked(_), true) => Mode::UntilClose,
            _ => Mode::Same,
        };
        let until_close = mode == Mode::UntilClose || (mode == Mode::Same && h.framing == Framing::UntilClose);
        // an answer that came before the request's end: what is left of the request is not waited for
        let keep_client = !self.request.close && !until_close && !leaving && self.body.is_done();
        let how = ForwardResponse { edits, body: mode, close: !keep_client };
        build::response(self.client.stream.out(), up.buf.data(), h, &how);
        up.buf.consume(h.len);
        let mut framing = h.framing;
        let mut done = framing.is_done();
        if !done && !up.buf.is_empty() {
            done = self.piece(up, &mut framing, mode)?;
        }
        loop {
            self.client.stream.seal().map_err(|_| BrokenOff::Stopped(Stop::Gone))?;
            if !done && self.client.stream.backlog() == 0 {
                self.guard.phase(&self.client.deadline, BODY_IDLE_MS);
            }
            poll_fn(|cx| self.poll_out(cx, up)).await?;
            if done {
                break;
            }
            self.guard.phase(&self.client.deadline, BODY_IDLE_MS);
            if up.buf.is_empty() {
                done = self.more(up, framing, mode).await?;
            }
            if !up.buf.is_empty() {
                done = self.piece(up, &mut framing, mode)?;
            }
        }
        let whole = self.sent == Some(Sent::Whole);
        Ok(Ended {
            keep_upstream: !h.close && whole && up.buf.is_empty() && h.framing != Framing::UntilClose,
            keep_client: keep_client && whole,
        })
    }

    /// Takes one piece of the body from the upstream's buffer; true: the body is complete.
    #[inline]
    fn piece(&mut self, up: &mut Upstream, framing: &mut Framing, mode: Mode) -> Result<bool, BrokenOff> {
        let data = up.buf.data();
        let data = &data[..data.len().min(PIECE)];
        let out = self.client.stream.out();
        let bad = |_| BrokenOff::Upstream;
        let a = match mode {
            Mode::Same => {
                let a = framing.advance(data).map_err(bad)?;
                out.extend_from_slice(&data[..a.used]);
                a
            }
            Mode::Chunked => {
                let a = framing.advance(data).map_err(bad)?;
                chunk(out, &data[..a.used]);
                a
            }
            Mode::UntilClose => framing.decode(data, |p| out.extend_from_slice(p)).map_err(bad)?,
        };
        up.buf.consume(a.used);
        Ok(a.done)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, up: &mut Upstream) -> Poll<Result<(), BrokenOff>> {
        if self.poll_body(cx, up).is_err() {
            return Poll::Ready(Err(BrokenOff::Stopped(Stop::Gone)));
        }
        match self.client.stream.poll_flush(cx) {
            Poll::Ready(r) => return Poll::Ready(r.map_err(|_| BrokenOff::Stopped(Stop::Gone))),
            Poll::Pending => {}
        }
        self.guard
            .check(&self.client.deadline, up.stream.session().or(self.client.stream.session()))
            .map_or(Poll::Pending, |s| Poll::Ready(Err(BrokenOff::Stopped(s))))
    }

    /// Reads more of the body; true: it ended with the connection, as announced.
    async fn more(&mut self, up: &mut Upstream, framing: Framing, mode: Mode) -> Result<bool, BrokenOff> {
        let n = poll_fn(|cx| {
            if self.poll_body(cx, up).is_err() {
                return Poll::Ready(Err(BrokenOff::Stopped(Stop::Gone)));
            }
            match up.stream.poll_fill(cx, &mut up.buf) {
                Poll::Ready(r) => return Poll::Ready(r.map_err(|_| BrokenOff::Upstream)),
                Poll::Pending => {}
            }
            if let Some(s) =
                self.guard.check(&self.client.deadline, up.stream.session().or(self.client.stream.session()))
            {
                return Poll::Ready(Err(BrokenOff::Stopped(s)));
            }
            if self.body.is_done() && self.client.poll_gone(cx) {
                return Poll::Ready(Err(BrokenOff::Stopped(Stop::Gone)));
            }
            Poll::Pending
        })
        .await?;
        if n > 0 {
            return Ok(false);
        }
        if framing != Framing::UntilClose {
            return Err(BrokenOff::Upstream);
        }
        if mode == Mode::Chunked {
            self.client.stream.out().extend_from_slice(b"0\r\n\r\n");
            self.client.stream.seal().map_err(|_| BrokenOff::Stopped(Stop::Gone))?;
            poll_fn(|cx| self.poll_out(cx, up)).await?;
        }
        Ok(true)
    }
}

/// Appends one chunk.
fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    while shift > 0 {
        shift -= 1;
        out.push(DIGITS[data.len() >> (4 * shift) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::chunk;

    #[test]
    fn chunks_carry_their_size_in_hex() {
        for (n, head) in [
            (1usize, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (255, "ff\r\n"),
            (4096, "1000\r\n"),
            (65536, "10000\r\n"),
        ] {
            let mut o = Vec::new();
            chunk(&mut o, &vec![b'x'; n]);
            assert!(o.starts_with(head.as_bytes()), "{n}");
            assert_eq!(o.len(), head.len() + n + 2);
        }
        let mut o = Vec::new();
        chunk(&mut o, b"");
        assert!(o.is_empty(), "an empty chunk would end the body");
    }
}
