//! rustls' unbuffered API driven on a socket: decrypts from and seals into our own buffers (no adapter, no extra task).
//!
//! Two traps seen: the unbuffered *server* may write before the client has proved who it is (so only
//! `is_handshaking() == false` ends a handshake), and dropping a `ReadTraffic` state loses the data in it.

use super::{Buf, Out, give, lend};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use std::io;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// A record's header, tag and type byte, rounded up.
const RECORD: usize = 32;
/// Room for a KeyUpdate that rustls may put before the data.
const KEY_UPDATE: usize = 128;

pub enum Conn {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// One established (or establishing) TLS session without its socket.
pub struct Session {
    conn: Conn,
    cin: Buf,
    early: Buf,
    plain: Vec<u8>,
    eof: bool,
    closed: bool,
}

macro_rules! each {
    ($s:expr, $c:ident => $e:expr) => {
        match $s {
            Conn::Client($c) => $e,
            Conn::Server($c) => $e,
        }
    };
}

fn other<E: Into<Box<dyn std::error::Error + Send + Sync>>>(e: E) -> io::Error {
    io::Error::other(e)
}

/// What one step asks for.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Again,
    Read,
    Flush,
    Ready,
    Closed,
}

/// Encodes what rustls wants to send (handshake, KeyUpdate, alert) behind `out`.
macro_rules! encode {
    ($e:expr, $out:expr) => {{
        let at = $out.len();
        let mut room = 2048;
        loop {
            $out.resize(at + room, 0);
            match $e.encode(&mut $out[at..]) {
                Ok(n) => {
                    $out.truncate(at + n);
                    break;
                }
                Err(EncodeError::InsufficientSize(e)) => room = e.required_size,
                Err(e) => return Err(other(e)),
            }
        }
    }};
}

macro_rules! step {
    ($c:expr, $cin:expr, $out:expr, $data:expr) => {{
        let UnbufferedStatus { mut discard, state, .. } = $c.process_tls_records($cin.data_mut());
        let next = match state.map_err(other) {
            Ok(ConnectionState::ReadTraffic(mut rt)) => {
                while let Some(r) = rt.next_record() {
                    let r = r.map_err(other)?;
                    discard += r.discard;
                    $data.extend(r.payload);
                }
                Ok(Next::Again)
            }
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Ready),
            Ok(ConnectionState::BlockedHandshake) => Ok(Next::Read),
            Ok(ConnectionState::EncodeTlsData(mut e)) => {
                encode!(e, $out);
                Ok(Next::Again)
            }
            Ok(ConnectionState::TransmitTlsData(t)) => {
                t.done();
                Ok(Next::Flush)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Closed),
            Ok(_) => Err(other("unexpected TLS state")),
            Err(e) => Err(e),
        };
        $cin.consume(discard);
        next
    }};
}

impl Session {
    fn new(conn: Conn, cin: Buf) -> Box<Session> {
        Box::new(Session { conn, cin, early: Buf::new(), plain: Vec::new(), eof: false, closed: false })
    }

    /// The peer's chain, leaf first.
    pub fn peer(&self) -> Option<&[CertificateDer<'static>]> {
        each!(&self.conn, c => c.peer_certificates())
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        each!(&self.conn, c => c.alpn_protocol())
    }

    fn step(&mut self, out: &mut Vec<u8>) -> io::Result<Next> {
        each!(&mut self.conn, c => step!(c, self.cin, out, self.early))
    }

    #[inline]
    pub(super) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    #[inline]
    pub(super) fn poll_fill(
        &mut self,
        io: &mut TcpStream,
        out: &mut Out,
        cx: &mut Context<'_>,
        b: &mut Buf,
    ) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let n = self.early.len();
            b.extend(self.early.data());
            self.early.consume(n);
            self.early.release();
            return Poll::Ready(Ok(n));
        }
        loop {
            if self.eof {
                return Poll::Ready(Ok(0));
            }
            let before = b.len();
            while !self.cin.is_empty() {
                let next: io::Result<Next> = (|| each!(&mut self.conn, c => step!(c, self.cin, out.bytes, b)))();
                match next? {
                    Next::Again | Next::Flush => {}
                    Next::Closed => {
                        self.eof = true;
                        break;
                    }
                    Next::Read | Next::Ready => break,
                }
            }
            if b.len() > before {
                return Poll::Ready(Ok(b.len() - before));
            }
            if self.eof {
                continue;
            }
            match self.cin.poll_read(io, cx) {
                // without close_notify somebody may have cut the message short
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    b.release();
                    return Poll::Pending;
                }
            }
        }
    }

    #[inline]
    pub(super) fn seal(&mut self, out: &mut Out) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        if out.bytes.capacity() == 0 {
            out.bytes = lend();
        }
        each!(&mut self.conn, c => loop {
            let UnbufferedStatus { state, .. } = c.process_tls_records(&mut []);
            match state.map_err(other)? {
                ConnectionState::WriteTraffic(mut w) => {
                    let at = out.bytes.len();
                    let n = self.plain.len();
                    out.bytes.resize(at + n + (n / super::MAX_PLAIN + 1) * RECORD + KEY_UPDATE, 0);
                    let n = w.encrypt(&self.plain, &mut out.bytes[at..]).map_err(other)?;
                    out.bytes.truncate(at + n);
                    break;
                }
                ConnectionState::EncodeTlsData(mut e) => encode!(e, out.bytes),
                ConnectionState::TransmitTlsData(t) => t.done(),
                ConnectionState::ReadTraffic(mut rt) => {
                    while let Some(r) = rt.next_record() {
                        self.early.extend(r.map_err(other)?.payload);
                    }
                }
                // the peer's close_notify ends only its direction
                ConnectionState::PeerClosed => self.eof = true,
                _ => return Err(other("cannot write now")),
            }
        });
        give(&mut self.plain);
        Ok(())
    }

    /// Queues close_notify, once.
    pub(super) fn close(&mut self, out: &mut Out) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        each!(&mut self.conn, c => {
            if let ConnectionState::WriteTraffic(mut w) = match c.process_tls_records(&mut []).state {
                Ok(s) => s,
                Err(_) => return,
            } {
                let at = out.bytes.len();
                out.bytes.resize(at + KEY_UPDATE, 0);
                let n = w.queue_close_notify(&mut out.bytes[at..]).unwrap_or(0);
                out.bytes.truncate(at + n);
            }
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        give(&mut self.plain);
    }
}

/// Runs a handshake to its end. `read` holds what was read of the socket already (a ClientHello).
///
/// On a refusal the alert is sent before the error is returned.
pub async fn handshake(io: &mut TcpStream, conn: Conn, read: Buf) -> io::Result<Box<Session>> {
    let mut s = Session::new(conn, read);
    let mut out = Out::default();
    loop {
        let next = match s.step(&mut out.bytes) {
            Ok(n) => n,
            Err(e) => {
                // a further step yields the alert that tells the peer why
                for _ in 0..4 {
                    if s.step(&mut out.bytes).is_err() {
                        break;
                    }
                }
                let _ = std::future::poll_fn(|cx| out.poll_flush(io, cx)).await;
                return Err(e);
            }
        };
        let handshaking = each!(&s.conn, c => c.is_handshaking());
        match next {
            Next::Again => {}
            Next::Ready if !handshaking => break,
            Next::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            Next::Flush => std::future::poll_fn(|cx| out.poll_flush(io, cx)).await?,
            Next::Ready | Next::Read => {
                std::future::poll_fn(|cx| out.poll_flush(io, cx)).await?;
                if std::future::poll_fn(|cx| s.cin.poll_read(io, cx)).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    std::future::poll_fn(|cx| out.poll_flush(io, cx)).await?;
    Ok(s)
}
