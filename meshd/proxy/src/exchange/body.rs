//! A request's body on its way: what is left of it, and what is kept for another try.

use crate::downstream::Client;
use crate::exchange::PIECE;
use crate::http1::Refused;
use crate::http1::framing::{BadBody, Framing};
use crate::stream::{Stream, give, lend};
use std::task::{Context, Poll};

/// How sending stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it is with the kernel.
    Whole,
    /// The upstream takes no more; it may have answered nevertheless.
    Refused,
}

/// The client's part broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It went away.
    Gone,
    /// What it sends is no body.
    Bad(Refused),
}

pub struct Body {
    framing: Framing,
    done: bool,
    moved: bool,
    begun: bool,
    kept: Vec<u8>,
    keep: bool,
}

impl Body {
    /// `limit`: keep up to so many bytes for another try; 0: none are made.
    pub fn new(framing: Framing, limit: usize) -> Body {
        let done = framing.is_done();
        let fits = match framing {
            Framing::Length(n) => n <= limit as u64,
            _ => true,
        };
        Body { framing, done, moved: false, begun: false, kept: Vec::new(), keep: limit > 0 && fits }
    }

    /// All of it was read from the client.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the request can be sent again: nothing of the body left, or all that left is still held.
    #[inline]
    pub fn replayable(&self) -> bool {
        self.keep || !self.begun
    }

    /// Puts what was sent before, and what already arrived, behind the head: one record, one write.
    #[inline]
    pub fn begin(&mut self, client: &mut Client, up: &mut Stream) -> Result<(), Broken> {
        self.begun = true;
        if !self.kept.is_empty() {
            up.out().extend_from_slice(&self.kept);
        }
        if !self.done && !client.buf.is_empty() {
            self.take(client, up)?;
        }
        Ok(())
    }

    fn take(&mut self, client: &mut Client, up: &mut Stream) -> Result<(), Broken> {
        let data = client.buf.data();
        let a = match self.framing.advance(&data[..data.len().min(PIECE)]) {
            Ok(a) => a,
            Err(BadBody(reason)) => {
                // nobody knows where it ends: no byte that follows is ever read as a request
                self.framing = Framing::UntilClose;
                return Err(Broken::Bad(Refused { status: 400, reason }));
            }
        };
        let piece = &data[..a.used];
        up.out().extend_from_slice(piece);
        if self.keep {
            if self.kept.len() + piece.len() > crate::retry::KEPT_BODY {
                self.keep = false;
                self.kept = Vec::new();
            } else {
                if self.kept.capacity() == 0 {
                    self.kept = lend();
                }
                self.kept.extend_from_slice(piece);
            }
        }
        client.buf.consume(a.used);
        self.done = a.done;
        self.moved = true;
        Ok(())
    }

    /// Whether some of the body was taken since the last call.
    #[inline]
    pub fn has_moved(&mut self) -> bool {
        std::mem::replace(&mut self.moved, false)
    }

    /// Moves the body on. Reads from the client only what the upstream takes.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client, up: &mut Stream) -> Poll<Result<Sent, Broken>> {
        loop {
            match up.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.done => return Poll::Ready(Ok(Sent::Whole)),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(Sent::Refused)),
                Poll::Pending => return Poll::Pending,
            }
            if client.buf.is_empty() {
                match client.stream.poll_fill(cx, &mut client.buf) {
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Err(Broken::Gone)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.take(client, up)?;
            if up.seal().is_err() {
                return Poll::Ready(Ok(Sent::Refused));
            }
        }
    }

    /// Reads over what is left of the body in the client's buffer; false: more of it is to come.
    pub fn skip_buffered(&mut self, client: &mut Client) -> bool {
        if !self.done
            && let Ok(a) = self.framing.advance(client.buf.data())
        {
            client.buf.consume(a.used);
            self.done = a.done;
        }
        self.done
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.kept.capacity() > 0 {
            give(&mut self.kept);
        }
    }
}
