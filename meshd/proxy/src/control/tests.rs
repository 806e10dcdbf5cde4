//! Frames, and what an update does to the held set.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};

use super::{FrameDecoder, FrameError, Holder, MAX_FRAME, Saver, encode, last_path, restore};
use crate::config::frames::{Applied, FromProxy, Rejected, ToProxy, Update};
use crate::config::parse::digest;
use crate::tables::tests::endpoint;

pub(super) fn update(number: u64, full: bool, put: &[Value], delete: &[&str]) -> Update {
    let frame = json!({"type": "update", "update": number, "full": full, "put": put, "delete": delete});
    match ToProxy::parse(frame.to_string().as_bytes()).unwrap() {
        ToProxy::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn apply(holder: &mut Holder, update: &Update) -> Result<(), Rejected> {
    let candidate = holder.prepare(update)?;
    holder.commit(candidate);
    Ok(())
}

fn trust() -> Value {
    json!({"kind": "trust", "name": "trust", "trust_domain": "td", "roots": []})
}

fn ids(holder: &Holder) -> Vec<String> {
    holder.holds().into_keys().collect()
}

/// An identity resource whose key and certificate fit.
pub(super) fn identity(spiffe: &str) -> Value {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).unwrap();
    json!({"kind": "identity", "name": "web/a/1", "spiffe": "spiffe://td/svc/web/n/a/i/1",
           "certificate": certificate.pem(), "private_key": key.serialize_pem()})
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let frames = [FromProxy::Applied(Applied { update: 1 }), FromProxy::Applied(Applied { update: 2 })];
    let bytes: Vec<u8> = frames.iter().flat_map(|f| encode(f).unwrap()).collect();
    assert_eq!(&bytes[..4], &[0, 0, 0, (bytes.len() / 2 - 4) as u8]);
    for size in 1..bytes.len() {
        let mut decoder = FrameDecoder::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(json) = decoder.next_frame().unwrap() {
                found.push(serde_json::from_slice::<FromProxy>(json).unwrap());
            }
        }
        assert_eq!(found, frames);
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
    let mut decoder = FrameDecoder::default();
    decoder.push(&(MAX_FRAME as u32 + 1).to_be_bytes());
    assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(MAX_FRAME + 1)));
}

#[test]
fn put_delete_and_full_change_the_set() {
    let mut holder = Holder::default();
    assert!(holder.is_empty());
    apply(&mut holder, &update(1, true, &[endpoint("api", "a", "1", &[]), trust()], &[])).unwrap();
    apply(&mut holder, &update(2, false, &[endpoint("api", "b", "1", &[])], &["endpoint/api/a/1", "routes/none"]))
        .unwrap();
    assert_eq!(ids(&holder), ["endpoint/api/b/1", "trust/trust"]);
    apply(&mut holder, &update(3, true, &[endpoint("web", "a", "1", &[])], &[])).unwrap();
    assert_eq!(ids(&holder), ["endpoint/web/a/1", "trust/trust"], "full without trust keeps trust");
    assert_eq!(holder.update(), 3);
    let held = holder.holds();
    assert_eq!(held["endpoint/web/a/1"], digest(endpoint("web", "a", "1", &[]).to_string().as_bytes()));
}

#[test]
fn class_28_one_bad_resource_changes_nothing() {
    let mut holder = Holder::default();
    apply(&mut holder, &update(1, true, &[endpoint("api", "a", "1", &[])], &[])).unwrap();
    let before = holder.holds();
    let bad = json!({"kind": "routes", "name": "api", "rules": [
        {"origin": "o", "legs": [{"service": "api"}], "match": {"path_regex": "("}}]});
    let e = apply(&mut holder, &update(2, true, &[endpoint("api", "b", "1", &[]), bad], &[])).unwrap_err();
    assert_eq!((e.update, e.resource.as_str(), e.path.as_str()), (2, "routes/api", "rules[0].match.path_regex"));
    assert_eq!((holder.holds(), holder.update()), (before, 1));
}

#[test]
fn identities_are_checked_and_their_keys_never_shown() {
    let mut holder = Holder::default();
    let good = identity("spiffe://td/svc/web/n/a/i/1");
    let candidate = holder.prepare(&update(1, true, std::slice::from_ref(&good), &[])).unwrap();
    assert_eq!(candidate.tables.identity("web/a/1").unwrap().spiffe.as_str(), "spiffe://td/svc/web/n/a/i/1");
    holder.commit(candidate);
    let dump = holder.dump();
    let shown = dump[0]["private_key"].as_str().unwrap();
    assert!(shown.starts_with("sha256:") && shown.len() == 71, "{shown}");
    assert_eq!(dump[0]["certificate"], good["certificate"]);
    assert!(!json!(dump).to_string().contains("PRIVATE KEY"));

    let reject = |value: Value| holder.prepare(&update(2, false, &[value], &[])).unwrap_err().path;
    assert_eq!(reject(identity("spiffe://td/svc/web/n/a/i/2")), "certificate");
    let mut mixed = good.clone();
    mixed["private_key"] = identity("spiffe://td/svc/web/n/a/i/1")["private_key"].clone();
    assert_eq!(reject(mixed), "private_key");
    let mut renamed = good.clone();
    renamed["name"] = "web/b/1".into();
    assert_eq!(reject(renamed), "spiffe");
}

#[test]
fn the_last_set_is_saved_and_restored() {
    let run_dir = std::env::temp_dir().join(format!("meshd-proxy-saved-{}", std::process::id()));
    assert!(restore(&run_dir).unwrap().is_none());
    let (mut holder, saver) = (Holder::default(), Saver::start(run_dir.clone()).unwrap());
    let mut change = |u: Update| {
        let candidate = holder.prepare(&u).unwrap();
        saver.applied(&candidate);
        holder.commit(candidate);
    };
    change(update(4, true, &[endpoint("api", "a", "1", &[]), endpoint("api", "b", "1", &[]), trust()], &[]));
    change(update(5, false, &[endpoint("api", "c", "1", &[])], &["endpoint/api/b/1"]));
    let saved = || restore(&run_dir).unwrap().filter(|u| u.update == 5);
    while saved().is_none() {
        std::thread::yield_now();
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&last_path(&run_dir)), mode(&run_dir.join("proxy"))), (0o600, 0o700));
    let mut again = Holder::default();
    apply(&mut again, &saved().unwrap()).unwrap();
    assert_eq!((again.holds(), again.update()), (holder.holds(), 5), "digests are of the same bytes");
    std::fs::write(last_path(&run_dir), "{").unwrap();
    assert!(restore(&run_dir).is_err());
    std::fs::remove_dir_all(&run_dir).unwrap();
}
