//! Who is at the other end: mutual TLS 1.3, chains by webpki, names by SPIFFE.
//!
//! The callee decides the protocol: each local instance has its own TLS configuration with its own certificate and
//! the ALPN that fits its protocol, chosen by SNI before anything is answered. No session is resumed: every
//! connection was verified against the trust bundle of its time, and is verified again when that changes.

mod accept;
mod keys;
mod verify;

pub use accept::{Accepted, accept};
pub use keys::{Keys, Own};
pub use verify::{Peer, TrustBundle};

use crate::stream::{Buf, Conn, Session, Stream, handshake};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Between meshd proxies, for HTTP services.
pub const ALPN_HTTP: &[u8] = b"meshd-h1";
/// Between meshd proxies, for TCP services.
pub const ALPN_TCP: &[u8] = b"meshd-tcp";
/// Between meshd proxies: is this instance there? Any protocol; the callee ends the connection after the handshake.
pub const ALPN_PROBE: &[u8] = b"meshd-probe";
/// Foreign clients of HTTP services.
pub const ALPN_FOREIGN: &[u8] = b"http/1.1";

/// The suites and groups of the mesh: TLS 1.3 only, X25519MLKEM768 preferred.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::aws_lc_rs as a;
    Arc::new(rustls::crypto::CryptoProvider {
        // AES-128 first: the keys live for one connection, and it is the cheapest of the three
        cipher_suites: vec![
            a::cipher_suite::TLS13_AES_128_GCM_SHA256,
            a::cipher_suite::TLS13_AES_256_GCM_SHA384,
            a::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![a::kx_group::X25519MLKEM768, a::kx_group::X25519, a::kx_group::SECP256R1],
        ..a::default_provider()
    })
}

/// Whom to expect, and as whom.
pub struct Peering<'a> {
    pub own: &'a Own,
    pub trust: &'a Arc<TrustBundle>,
    pub want: &'a str,
    pub server_name: &'a ServerName<'static>,
}

impl Peering<'_> {
    async fn open(&self, io: &mut TcpStream, mut config: ClientConfig) -> io::Result<Box<Session>> {
        config.dangerous().set_certificate_verifier(Arc::new(verify::ExactServer::new(self.trust.clone(), self.want)));
        let conn = rustls::client::UnbufferedClientConnection::new(Arc::new(config), self.server_name.clone())
            .map_err(io::Error::other)?;
        handshake(io, Conn::Client(conn), Buf::new()).await
    }

    /// Opens TLS towards exactly the identity that is wanted; the other end must speak `alpn`.
    ///
    /// Errors carry rustls' reason; nothing of the application is sent before the peer is verified.
    pub async fn connect(&self, io: &mut TcpStream, alpn: &'static [u8]) -> io::Result<Box<Session>> {
        let session = self.open(io, self.own.client(alpn)).await?;
        if session.alpn() != Some(alpn) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer did not agree on the protocol"));
        }
        Ok(session)
    }

    /// A handshake and nothing else: the identity is there, and it takes ours. `alpn`: what an older peer knows.
    pub async fn probe(&self, mut io: TcpStream, alpn: &'static [u8]) -> io::Result<()> {
        let mut config = self.own.client(alpn);
        config.alpn_protocols.insert(0, ALPN_PROBE.to_vec());
        let session = self.open(&mut io, config).await?;
        let asked = session.alpn() == Some(ALPN_PROBE);
        if !asked && session.alpn() != Some(alpn) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer did not agree on the protocol"));
        }
        let mut stream = Stream::secured(io, session);
        if asked {
            // in TLS 1.3 the client is done first: only the peer's clean end says that it took our certificate
            if poll_fn(|cx| stream.poll_fill(cx, &mut Buf::new())).await? != 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sent data to a probe"));
            }
            // both are done: no socket waits for late segments of it, however many probes there are
            stream.reset();
            return Ok(());
        }
        stream.finish();
        poll_fn(|cx| stream.poll_flush(cx)).await
    }
}
