//! The server side of a handshake: the ClientHello is read whole first, however it is cut, and its SNI picks the instance.

use super::verify::Peer;
use super::{ALPN_HTTP, ALPN_PROBE, ALPN_TCP, Keys};
use crate::spiffe::Usage;
use crate::stream::{Buf, Conn, Session, handshake};
use crate::tables::InboundId;
use rustls::pki_types::UnixTime;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// TLS alert `unrecognized_name`, fatal (RFC 6066, 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A connection whose both ends are known.
pub struct Accepted {
    pub session: Box<Session>,
    pub inbound: InboundId,
    pub peer: Peer,
    /// The other end is a meshd proxy (its ALPN says so): its marks on requests are read, ours are sent.
    pub proxy: bool,
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads the ClientHello; returns its SNI and all bytes read.
async fn client_hello(io: &mut TcpStream) -> io::Result<(Option<String>, Buf)> {
    let (mut acceptor, mut read, mut fed) = (Acceptor::default(), Buf::new(), 0);
    loop {
        if std::future::poll_fn(|cx| read.poll_read(io, cx)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while fed < read.len() {
            let mut rest = &read.data()[fed..];
            let n = acceptor.read_tls(&mut rest)?;
            fed += n;
            match acceptor.accept() {
                Ok(Some(hello)) => return Ok((hello.client_hello().server_name().map(str::to_owned), read)),
                Ok(None) if n > 0 => {}
                Ok(None) => break,
                Err((e, mut alert)) => {
                    let mut bytes = Vec::new();
                    let _ = alert.write(&mut bytes);
                    let _ = io.write_all(&bytes).await;
                    return Err(invalid(e));
                }
            }
        }
    }
}

/// Runs a handshake as the instance that the SNI names. An unknown or missing SNI is refused before any certificate
/// is shown; so is an ALPN that does not fit the instance's protocol, and a peer without a certificate of ours.
pub async fn accept(io: &mut TcpStream, keys: &Keys) -> io::Result<Accepted> {
    let (sni, read) = client_hello(io).await?;
    let Some((inbound, config)) = sni.as_deref().and_then(|s| keys.server(s)) else {
        let _ = io.write_all(&UNRECOGNIZED_NAME).await;
        return Err(invalid(match sni {
            Some(s) => format!("no instance here has the server name {s:?}"),
            None => "no server name".into(),
        }));
    };
    let conn = UnbufferedServerConnection::new(config).map_err(invalid)?;
    let session = handshake(io, Conn::Server(conn), read).await?;
    let proxy = match session.alpn() {
        Some(a) => a == ALPN_HTTP || a == ALPN_TCP,
        // rustls lets a client go on that offers no ALPN at all; then the callee's protocol is not agreed on
        None => return Err(invalid("no protocol (ALPN) offered")),
    };
    let trust = keys.trust().cloned().ok_or_else(|| invalid("no trust"))?;
    let chain = session.peer().ok_or_else(|| invalid("no client certificate"))?;
    let peer = trust.verify(chain, Usage::Client, UnixTime::now()).map_err(|e| invalid(e.to_string()))?;
    Ok(Accepted { session, inbound, peer, proxy })
}

impl Accepted {
    /// The peer wants to know who is here, and nothing else.
    pub fn is_probe(&self) -> bool {
        self.session.alpn() == Some(ALPN_PROBE)
    }

    /// The peer's chain against another trust bundle; false: it is no longer trusted.
    pub fn still_trusted(session: &Session, keys: &Keys, usage: Usage) -> bool {
        let (Some(trust), Some(chain)) = (keys.trust(), session.peer()) else { return false };
        trust.verify(chain, usage, UnixTime::now()).is_ok()
    }
}
