//! Probes over real sockets: a callee with its own threads, and suspects that answer, lie or are gone.

use super::Prober;
use crate::access_log::Writer;
use crate::config::frames::{Event, Update};
use crate::control::Holder;
use crate::events::Events;
use crate::listener::{Purpose, bind};
use crate::metrics;
use crate::runtime::{Common, Threads};
use crate::snapshot::{Registry, Snapshot};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), root }
    }

    fn trust(&self) -> Value {
        json!({"kind": "trust", "name": "trust", "trust_domain": "td", "roots": [self.root]})
    }

    fn identity(&self, name: &str) -> Value {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(spiffe(name).as_str().try_into().unwrap())];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        json!({"kind": "identity", "name": name, "spiffe": spiffe(name), "certificate": certificate.pem(),
               "private_key": key.serialize_pem()})
    }
}

fn spiffe(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    format!("spiffe://td/svc/{}/n/{}/i/{}", parts[0], parts[1], parts[2])
}

/// An endpoint; `inbound` empty: it is not meshed.
fn endpoint(name: &str, address: &str, inbound: &str, state: &str) -> Value {
    let parts: Vec<&str> = name.split('/').collect();
    let mut e = json!({"kind": "endpoint", "name": name, "id": parts[2], "service": parts[0], "node": parts[1],
                       "address": address, "state": state});
    if !inbound.is_empty() {
        e["inbound"] = inbound.into();
        e["sni"] = "i-1.mesh".into();
        e["spiffe"] = spiffe(name).into();
    }
    e
}

fn snapshot(registry: &mut Registry, resources: &[Value]) -> Arc<Snapshot> {
    let put = resources.iter().map(|r| serde_json::value::to_raw_value(r).unwrap()).collect();
    let update = Update { update: 1, full: true, put, delete: Vec::new() };
    let candidate = Holder::default().prepare(&update).unwrap();
    Arc::new(registry.snapshot(candidate.tables, &Snapshot::default()).unwrap())
}

/// A callee's threads with its inbound port on loopback; its port.
fn callee(first: Arc<Snapshot>, start: Instant, events: Events) -> (Threads, String) {
    let common = Common { start, unix_at_start_ms: 0, events, log: Writer::start().unwrap(), first };
    let threads = Threads::start(1, &common).unwrap();
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let port = sockets[0].local_addr().unwrap().to_string();
    threads.listen(&Purpose::Inbound, sockets);
    (threads, port)
}

/// Kind and detail of each endpoint's event.
async fn heard(events: &mut tokio::sync::mpsc::Receiver<Event>, n: usize) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    while found.len() < n {
        let e = events.recv().await.unwrap();
        found.insert(e.endpoint, (e.kind, e.detail));
    }
    found
}

#[tokio::test]
async fn only_the_identity_itself_speaks_for_a_suspect_and_the_app_hears_nothing() {
    let (ca, start) = (Authority::new(), Instant::now());
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    app.set_nonblocking(true).unwrap();
    let app_address = app.local_addr().unwrap().to_string();
    // the callee: a TCP service, whose app would see every connection that is not a probe
    let inbound = json!({"kind": "inbound", "name": "db/b/1", "service": "db", "app": app_address, "sni": "i-1.mesh",
                         "protocol": "tcp"});
    let first = snapshot(&mut Registry::default(), &[ca.trust(), ca.identity("db/b/1"), inbound]);
    let (events, mut callee_events) = Events::channel();
    let (callee, port) = callee(first, start, events);
    let gone = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    let mut registry = Registry::default();
    let suspects = snapshot(
        &mut registry,
        &[
            ca.trust(),
            ca.identity("web/a/1"),
            endpoint("db/b/1", &app_address, &port, "suspect"),
            // somebody else has its address now
            endpoint("db/c/2", &app_address, &port, "suspect"),
            endpoint("db/d/3", &app_address, &gone, "suspect"),
            endpoint("db/e/4", &app_address, &gone, "passing"),
            endpoint("old/x/1", &port, "", "suspect"),
            endpoint("old/x/2", &gone, "", "suspect"),
        ],
    );
    let (events, mut told) = Events::channel();
    let prober = Prober::start(start, events).unwrap();
    prober.follow(&suspects);
    let found = heard(&mut told, 5).await;
    let kinds: Vec<(&str, &str)> = found.iter().map(|(name, (kind, _))| (name.as_str(), kind.as_str())).collect();
    let (good, bad) = ("suspect_good", "suspect_bad");
    assert_eq!(kinds, [("db/b/1", good), ("db/c/2", bad), ("db/d/3", bad), ("old/x/1", good), ("old/x/2", bad)]);
    assert!(found["db/c/2"].1.contains("expected spiffe://td/svc/db/n/c/i/2"), "{}", found["db/c/2"].1);
    let states = registry.suspects(start.elapsed().as_millis() as u64);
    assert_eq!((states["db/b/1"], states["db/c/2"], states.len()), ("good", "bad", 5));
    let counted: Vec<(String, String, u64)> =
        prober.counts().into_iter().map(|c| (c.service, c.result, c.count)).collect();
    let row = |s: &str, r: &str, n| (s.to_owned(), r.to_owned(), n);
    assert_eq!(counted, [row("db", "good", 1), row("db", "bad", 2), row("old", "good", 1), row("old", "bad", 1)]);

    // what the callee saw: nothing that counts; of the plain connect to its port, and of the wrong name, an event
    assert!(app.accept().is_err(), "the app was never called");
    let stats = metrics::merge(callee.collect().await);
    assert!(stats.tcp.is_empty() && stats.requests.is_empty() && stats.denied.is_empty());
    while let Ok(e) = callee_events.try_recv() {
        assert_eq!(e.kind, "tls_failure");
    }
}

#[tokio::test]
async fn an_instance_that_drains_says_no() {
    let (ca, start) = (Authority::new(), Instant::now());
    let inbound = json!({"kind": "inbound", "name": "db/b/1", "service": "db", "app": "127.0.0.1:1",
                         "sni": "i-1.mesh", "protocol": "http"});
    let mut callee_registry = Registry::default();
    let first = snapshot(&mut callee_registry, &[ca.trust(), ca.identity("db/b/1"), inbound]);
    callee_registry.inbound("db/b/1").unwrap().drain();
    let (events, _callee_events) = Events::channel();
    let (_callee, port) = callee(first, start, events);
    let (events, mut told) = Events::channel();
    let prober = Prober::start(start, events).unwrap();
    prober.follow(&snapshot(
        &mut Registry::default(),
        &[ca.trust(), ca.identity("web/a/1"), endpoint("db/b/1", "127.0.0.1:1", &port, "suspect")],
    ));
    assert_eq!(heard(&mut told, 1).await["db/b/1"].0, "suspect_bad");
}
