//! A connection with explicit buffers, plain or under TLS.
//!
//! Writing: append to `out`, then `seal`, then `poll_flush`. What is sealed together leaves in one write where the
//! kernel takes it. Reading: `poll_fill` appends to a caller's buffer.

mod buf;
mod tls;

pub use buf::{Buf, give, lend};
pub use tls::{Conn, Session, handshake};

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Bytes of plaintext that fit one TLS record.
pub const MAX_PLAIN: usize = 16384;

/// Silence after which the kernel asks whether the other end is still there.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(60);

/// What waits for the kernel.
#[derive(Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    written: usize,
}

impl Out {
    #[inline]
    fn poll_flush(&mut self, io: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match Pin::new(&mut *io).poll_write(cx, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.written += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.written > 0 {
            give(&mut self.bytes);
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// One connection.
pub struct Stream {
    io: TcpStream,
    tls: Option<Box<Session>>,
    out: Out,
}

impl Stream {
    pub fn plain(io: TcpStream) -> Stream {
        Stream { io, tls: None, out: Out::default() }
    }

    pub fn secured(io: TcpStream, session: Box<Session>) -> Stream {
        Stream { io, tls: Some(session), out: Out::default() }
    }

    /// The TLS side, if there is one.
    pub fn session(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    pub fn io(&self) -> &TcpStream {
        &self.io
    }

    /// Appends what arrived to `b`; `Ok(0)` is a clean end (under TLS: close_notify, a bare FIN is an error).
    #[inline]
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, b: &mut Buf) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => b.poll_read(&mut self.io, cx),
            Some(t) => t.poll_fill(&mut self.io, &mut self.out, cx, b),
        }
    }

    /// Where plaintext is appended; `seal` makes it leave.
    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        let o = match &mut self.tls {
            None => &mut self.out.bytes,
            Some(t) => t.plain(),
        };
        if o.capacity() == 0 {
            *o = lend();
        }
        o
    }

    #[inline]
    pub fn seal(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(t) => t.seal(&mut self.out),
        }
    }

    /// Bytes not yet taken by the kernel.
    #[inline]
    pub fn backlog(&self) -> usize {
        self.out.bytes.len() - self.out.written
    }

    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.poll_flush(&mut self.io, cx)
    }

    /// Anything readable on an idle connection means that it is no longer usable.
    #[inline]
    pub fn stale(&mut self, cx: &mut Context<'_>) -> bool {
        match self.io.poll_read_ready(cx) {
            Poll::Pending => false,
            Poll::Ready(_) => {
                !matches!(self.io.try_read(&mut [0u8; 1]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// Says that nothing more will be sent: close_notify under TLS. `shut` then closes the write side of the socket.
    pub fn finish(&mut self) {
        if let Some(t) = &mut self.tls {
            t.close(&mut self.out);
        }
    }

    /// Half-closes a plain connection (under TLS close_notify has said it); call when all is flushed.
    pub fn shut(&mut self) {
        if self.tls.is_none() {
            let _ = socket2::SockRef::from(&self.io).shutdown(std::net::Shutdown::Write);
        }
    }

    /// Has the kernel find out that the other end is gone, on connections that may be silent for long.
    pub fn keep_alive(&self) {
        let after = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
        let _ = socket2::SockRef::from(&self.io).set_tcp_keepalive(&after);
    }

    /// Makes the close a reset: the peer must not take what it got for complete.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.io).set_linger(Some(std::time::Duration::ZERO));
    }
}
