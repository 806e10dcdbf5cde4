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

use crate::stream::{Buf, Conn, Session, handshake};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Between meshd proxies, for HTTP services.
pub const ALPN_HTTP: &[u8] = b"meshd-h1";
/// Between meshd proxies, for TCP services.
pub const ALPN_TCP: &[u8] = b"meshd-tcp";
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

/// Opens TLS as `own` towards exactly the identity `want`; the other end must speak `alpn`.
///
/// Errors carry rustls' reason; nothing of the application is sent before the peer is verified.
pub async fn connect(
    io: &mut TcpStream,
    own: &Own,
    trust: &Arc<TrustBundle>,
    want: &str,
    server_name: &ServerName<'static>,
    alpn: &'static [u8],
) -> io::Result<Box<Session>> {
    let mut config = own.client(alpn);
    config.dangerous().set_certificate_verifier(Arc::new(verify::ExactServer::new(trust.clone(), want)));
    let conn = rustls::client::UnbufferedClientConnection::new(Arc::new(config), server_name.clone())
        .map_err(io::Error::other)?;
    let session = handshake(io, Conn::Client(conn), Buf::new()).await?;
    if session.alpn() != Some(alpn) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer did not agree on the protocol"));
    }
    Ok(session)
}
