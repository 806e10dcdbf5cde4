//! The TLS configurations of this host's instances, rebuilt only where certificate, trust or protocol changed.

use super::verify::{AnyClient, TrustBundle};
use super::{ALPN_FOREIGN, ALPN_HTTP, ALPN_PROBE, ALPN_TCP, Peering, provider};
use crate::config::Protocol;
use crate::tables::{Identity, InboundId, MeshAddress, Rejection, Tables};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One instance's certificate and key, ready for both directions.
pub struct Own {
    digest: Box<str>,
    key: Arc<CertifiedKey>,
    client_http: ClientConfig,
    client_tcp: ClientConfig,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Own {
    fn new(id: &Identity, p: &Arc<CryptoProvider>) -> Result<Own, rustls::Error> {
        let key = Arc::new(CertifiedKey::from_der(id.chain.clone(), id.key.clone_key(), p)?);
        Ok(Own {
            digest: id.digest.clone(),
            client_http: client(&key, p, ALPN_HTTP)?,
            client_tcp: client(&key, p, ALPN_TCP)?,
            key,
        })
    }

    /// A client's configuration that trusts nobody until a verifier is set.
    pub(super) fn client(&self, alpn: &[u8]) -> ClientConfig {
        if alpn == ALPN_TCP { self.client_tcp.clone() } else { self.client_http.clone() }
    }
}

fn client(key: &Arc<CertifiedKey>, p: &Arc<CryptoProvider>, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let mut c = ClientConfig::builder_with_provider(p.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
    // a resumed session would skip the check of the chain against today's roots and revocations
    c.resumption = rustls::client::Resumption::disabled();
    c.alpn_protocols = vec![alpn.to_vec()];
    Ok(c)
}

/// All of them, by name and by SNI; immutable, shared by the threads.
#[derive(Debug, Default)]
pub struct Keys {
    trust: Option<Arc<TrustBundle>>,
    own: HashMap<Box<str>, Arc<Own>>,
    servers: HashMap<Box<str>, Server>,
}

#[derive(Debug)]
struct Server {
    inbound: InboundId,
    config: Arc<ServerConfig>,
}

impl Keys {
    /// Builds what `tables` need, keeping of `before` (made from `old`) what did not change. A rejection names the
    /// identity.
    pub fn build(tables: &Tables, old: &Tables, before: &Arc<Keys>) -> Result<Arc<Keys>, Rejection> {
        let digest = |t: &Tables| t.trust.as_ref().map(|t| t.digest.clone());
        let same_trust = digest(tables) == digest(old);
        let same_keys = Arc::ptr_eq(&tables.identities, &old.identities);
        if same_trust && same_keys && Arc::ptr_eq(&tables.inbounds, &old.inbounds) {
            return Ok(before.clone());
        }
        let p = provider();
        let same = before.trust.as_ref().filter(|_| same_trust);
        let trust = same.cloned().or_else(|| tables.trust.as_ref().map(TrustBundle::new));
        let mut own = HashMap::new();
        for id in tables.identities.iter() {
            let kept = before.own.get(&id.name).filter(|o| o.digest == id.digest).cloned();
            let it = match kept {
                Some(o) => o,
                None => Arc::new(
                    Own::new(id, &p)
                        .map_err(|e| Rejection::new(format!("identity/{}", id.name), "private_key", e.to_string()))?,
                ),
            };
            own.insert(id.name.clone(), it);
        }
        let mut servers = HashMap::new();
        if let Some(trust) = &trust {
            for (i, inbound) in tables.inbounds.iter().enumerate() {
                if let Some(o) = own.get(&inbound.name) {
                    let config = server(o, trust, inbound.protocol, &p)
                        .map_err(|e| Rejection::new(format!("inbound/{}", inbound.name), "", e.to_string()))?;
                    servers.insert(inbound.sni.clone(), Server { inbound: InboundId(i as u32), config });
                }
            }
        }
        Ok(Arc::new(Keys { trust, own, servers }))
    }

    pub fn trust(&self) -> Option<&Arc<TrustBundle>> {
        self.trust.as_ref()
    }

    /// Whether both verify peers alike: same roots, same revocations.
    pub fn same_trust(&self, other: &Keys) -> bool {
        match (&self.trust, &other.trust) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// By instance name.
    pub fn own(&self, instance: &str) -> Option<&Arc<Own>> {
        self.own.get(instance)
    }

    /// As `instance` to the identity that must answer at `to`; None: this host has no identity for it yet, or no trust.
    pub fn peering<'a>(&'a self, instance: &str, to: &'a MeshAddress) -> Option<Peering<'a>> {
        let (own, trust) = (self.own.get(instance)?, self.trust.as_ref()?);
        Some(Peering { own, trust, want: to.spiffe.as_str(), server_name: &to.server_name })
    }

    /// By SNI, any case.
    pub(super) fn server(&self, sni: &str) -> Option<(InboundId, Arc<ServerConfig>)> {
        let s = match self.servers.get(sni) {
            Some(s) => s,
            None => self.servers.get(&*sni.to_ascii_lowercase())?,
        };
        Some((s.inbound, s.config.clone()))
    }
}

fn server(
    own: &Own,
    trust: &Arc<TrustBundle>,
    protocol: Protocol,
    p: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut c = ServerConfig::builder_with_provider(p.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyClient(trust.clone())))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.key.clone())));
    c.send_tls13_tickets = 0;
    c.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // the first of ours that the peer offers: who probes also offers what an older proxy knows
    c.alpn_protocols = match protocol {
        Protocol::Http => vec![ALPN_PROBE.to_vec(), ALPN_HTTP.to_vec(), ALPN_FOREIGN.to_vec()],
        Protocol::Tcp => vec![ALPN_PROBE.to_vec(), ALPN_TCP.to_vec()],
    };
    Ok(Arc::new(c))
}
