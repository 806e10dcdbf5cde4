//! Verification of chains, both ways, now and again when trust changes.

use super::provider;
use crate::spiffe::{Spiffe, Usage, read_leaf};
use crate::tables::Trust;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// A verified peer.
#[derive(Clone, Debug)]
pub struct Peer {
    pub spiffe: Spiffe,
}

/// Why a chain is refused.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refuse(why: impl fmt::Display) -> Refused {
    Refused(why.to_string())
}

/// Roots and revocations, ready to verify with.
#[derive(Debug)]
pub struct TrustBundle {
    anchors: Vec<TrustAnchor<'static>>,
    provider: Arc<CryptoProvider>,
    /// Revocations and the trust domain.
    trust: Arc<Trust>,
}

impl TrustBundle {
    pub fn new(trust: &Arc<Trust>) -> Arc<TrustBundle> {
        let anchors =
            trust.roots.iter().filter_map(|r| webpki::anchor_from_trusted_cert(r).ok().map(|a| a.to_owned())).collect();
        Arc::new(TrustBundle { anchors, provider: provider(), trust: trust.clone() })
    }

    /// Verifies a chain (leaf first): signatures, times, usage, exactly one SPIFFE name of our trust domain, revocation.
    pub fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage, now: UnixTime) -> Result<Peer, Refused> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| refuse("no certificate"))?;
        let cert = webpki::EndEntityCert::try_from(leaf).map_err(refuse)?;
        let eku = match usage {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        cert.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &self.anchors,
            intermediates,
            now,
            eku,
            None,
            None,
        )
        .map_err(|e| match e {
            // both clocks, since one of them is wrong
            webpki::Error::CertNotValidYet { .. } | webpki::Error::CertExpired { .. } => {
                refuse(format_args!("{e}; this host's clock says {} s", now.as_secs()))
            }
            e => refuse(e),
        })?;
        let read = read_leaf(leaf).map_err(refuse)?;
        let trust = &self.trust;
        if read.spiffe.trust_domain() != &*trust.trust_domain {
            return Err(refuse("foreign trust domain"));
        }
        if trust.is_revoked(read.spiffe.as_str(), &read.serial, read.not_before_ms) {
            return Err(refuse("certificate revoked"));
        }
        Ok(Peer { spiffe: read.spiffe })
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.provider.signature_verification_algorithms)
    }
}

fn bad(e: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(e))))
}

const NO_TLS12: &str = "TLS 1.2 is not spoken here";

/// As a client: exactly one identity will do.
#[derive(Debug)]
pub(super) struct ExactServer {
    trust: Arc<TrustBundle>,
    want: Box<str>,
}

impl ExactServer {
    pub(super) fn new(trust: Arc<TrustBundle>, want: &str) -> ExactServer {
        ExactServer { trust, want: want.into() }
    }
}

impl ServerCertVerifier for ExactServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(leaf).chain(intermediates).map(|c| CertificateDer::from(c.as_ref())).collect();
        let peer = self.trust.verify(&chain, Usage::Server, now).map_err(bad)?;
        if peer.spiffe.as_str() != &*self.want {
            return Err(bad(refuse(format_args!("the peer is {}, expected {}", peer.spiffe.as_str(), self.want))));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.signature(m, c, d)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.schemes()
    }
}

/// As a server: any identity of the trust domain; what it may do is `authorize`'s question.
#[derive(Debug)]
pub(super) struct AnyClient(pub(super) Arc<TrustBundle>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(leaf).chain(intermediates).map(|c| CertificateDer::from(c.as_ref())).collect();
        self.0.verify(&chain, Usage::Client, now).map_err(bad)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.signature(m, c, d)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}
