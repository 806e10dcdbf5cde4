//! Identities and trust: PEM read once, checked as a peer will check them.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::{EndEntityCert, anchor_from_trusted_cert};

use std::sync::Arc;

use super::super::{Identity, Trust};
use super::{Draft, Rejection, only};
use crate::config::parse::{digest, hex};
use crate::config::{self, Resource};
use crate::spiffe::{Spiffe, read_leaf};

/// SHA-256 in hex over the public key (SPKI) of a PEM chain's leaf; "unreadable" when there is none.
pub fn public_key_digest(certificate: &str) -> String {
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).ok();
    match leaf.as_ref().and_then(spki) {
        Some(key) => hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key).as_ref()),
        None => "unreadable".into(),
    }
}

fn spki(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Some(EndEntityCert::try_from(certificate).ok()?.subject_public_key_info().to_vec())
}

/// All identities; what did not change is kept.
pub(super) fn identities(d: &mut Draft<'_>) -> Result<(), Rejection> {
    let old = Arc::clone(&d.next.identities);
    let mut all = Vec::new();
    for resource in d.set.kind("identity") {
        let Resource::Identity(r) = resource else { continue };
        let id = resource.id();
        let kept = old.binary_search_by(|i| (*i.name).cmp(&r.name)).ok().filter(|_| !d.changed.contains(&id));
        all.push(match kept {
            Some(i) => Arc::clone(&old[i]),
            None => Arc::new(identity(&id, r)?),
        });
    }
    d.next.identities = Arc::new(all);
    Ok(())
}

fn identity(resource: &str, r: &config::Identity) -> Result<Identity, Rejection> {
    let bad = |path: &str, reason: &str| Rejection::new(resource, path, reason);
    let spiffe = Spiffe::parse(&r.spiffe).map_err(|e| bad("spiffe", e.0))?;
    if !spiffe.is_instance(&r.name) {
        return Err(bad("spiffe", "is the identity of another instance"));
    }
    let chain = certificates(&r.certificate).ok_or_else(|| bad("certificate", "not a PEM chain"))?;
    let leaf = read_leaf(&chain[0]).map_err(|e| bad("certificate", e.0))?;
    if leaf.spiffe != spiffe {
        return Err(bad("certificate", "is of another identity"));
    }
    let pem = r.private_key.as_bytes();
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| bad("private_key", "not a PEM private key"))?;
    let signer = any_supported_type(&key).map_err(|_| bad("private_key", "not a supported private key"))?;
    let fits = signer.public_key().zip(spki(&chain[0])).is_some_and(|(ours, theirs)| ours.as_ref() == theirs);
    if !fits {
        return Err(bad("private_key", "does not fit the certificate"));
    }
    Ok(Identity {
        name: r.name.as_str().into(),
        spiffe,
        chain,
        key,
        digest: digest(format!("{}\n{}", r.certificate, r.private_key).as_bytes()).into(),
        not_after_ms: leaf.not_after_ms,
    })
}

/// All certificates of a PEM text, at least one.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!read.is_empty()).then_some(read)
}

pub(super) fn trust(d: &mut Draft<'_>) -> Result<(), Rejection> {
    d.next.trust = None;
    for resource in d.set.kind("trust") {
        let Resource::Trust(r) = resource else { continue };
        d.next.trust = Some(Arc::new(compiled(r)?));
    }
    Ok(())
}

fn compiled(r: &config::Trust) -> Result<Trust, Rejection> {
    only("trust", &r.name)?;
    let bad = |path: String, reason: &str| Rejection::new("trust/trust", path, reason);
    // A trust domain that no identity can have would make every peer anonymous.
    let probe = format!("spiffe://{}/node/x", r.trust_domain);
    Spiffe::parse(&probe).map_err(|_| bad("trust_domain".into(), "not a trust domain"))?;
    let mut roots = Vec::new();
    for (i, pem) in r.roots.iter().enumerate() {
        let read = certificates(pem).ok_or_else(|| bad(format!("roots[{i}]"), "not a PEM certificate"))?;
        for root in read {
            anchor_from_trusted_cert(&root).map_err(|_| bad(format!("roots[{i}]"), "not a root certificate"))?;
            if !roots.contains(&root) {
                roots.push(root.into_owned());
            }
        }
    }
    let mut text = r.trust_domain.clone().into_bytes();
    roots.sort_by(|a: &CertificateDer<'_>, b| a.as_ref().cmp(b.as_ref()));
    roots.iter().for_each(|root| text.extend_from_slice(root));
    let mut trust = Trust {
        trust_domain: r.trust_domain.as_str().into(),
        roots_digest: digest(&text).into(),
        digest: digest(&serde_json::to_vec(r).unwrap_or_default()).into(),
        roots,
        revoked_identities: Default::default(),
        revoked_serials: Default::default(),
    };
    for (i, revoked) in r.revoked.iter().enumerate() {
        revoke(&mut trust, revoked).map_err(|reason| bad(format!("revoked[{i}]"), reason))?;
    }
    Ok(trust)
}

fn revoke(trust: &mut Trust, r: &config::Revoked) -> Result<(), &'static str> {
    match (&r.spiffe, &r.serial) {
        (Some(spiffe), None) => {
            let before = trust.revoked_identities.entry(spiffe.as_str().into()).or_insert(r.before_ms);
            // Of two the stricter: 0 means all.
            *before = if *before == 0 || r.before_ms == 0 { 0 } else { r.before_ms.max(*before) };
            Ok(())
        }
        (None, Some(serial)) => {
            let serial = serial.to_ascii_lowercase();
            if serial.is_empty() || !serial.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err("not a serial in hex");
            }
            trust.revoked_serials.insert(serial.trim_start_matches('0').into());
            Ok(())
        }
        _ => Err("exactly one of spiffe and serial is needed"),
    }
}
