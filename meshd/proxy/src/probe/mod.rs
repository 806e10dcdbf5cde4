//! Asks suspects who they are: one thread for the process, so that a thousand handshakes hold up neither requests nor
//! updates. See `suspect` for what the answers mean and `schedule` for who is asked when.

mod schedule;
#[cfg(test)]
mod tests;

use crate::clock::unix_ms;
use crate::config::Protocol;
use crate::config::frames::ProbeCount;
use crate::connect::dial;
use crate::events::Events;
use crate::identity::{ALPN_HTTP, ALPN_TCP, Peering};
use crate::snapshot::{SharedService, Snapshot, suspects};
use crate::suspect::Proof;
use crate::tables::{Endpoint, MeshAddress, ServiceId};
use crate::worker::Random;
use schedule::Schedule;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

/// Until the peer's kernel answers.
const CONNECT: Duration = Duration::from_secs(1);
/// Until the peer has proved who it is, and has taken us for who we are.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Events told per second: a brake is one story, not a thousand. The others are counted as dropped.
const EVENTS_PER_SECOND: u32 = 64;

/// Good and bad answers by service.
type Counts = BTreeMap<Box<str>, [u64; 2]>;

/// The control thread's side of it.
pub struct Prober {
    to: mpsc::UnboundedSender<Arc<Snapshot>>,
    counts: Arc<Mutex<Counts>>,
}

impl Prober {
    /// `start` as for the data threads: their times compare.
    pub fn start(start: Instant, events: Events) -> io::Result<Prober> {
        let (to, snaps) = mpsc::unbounded_channel();
        let counts = Arc::new(Mutex::default());
        let probing = Probing {
            start,
            snap: None,
            schedule: Schedule::default(),
            random: Random::new(unix_ms() ^ u64::from(std::process::id()) << 32),
            counts: Arc::clone(&counts),
            events,
            told: (0, 0),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(probing.run(snaps));
        std::thread::Builder::new().name("probes".into()).spawn(run)?;
        Ok(Prober { to, counts })
    }

    /// These tables are about to be in force.
    pub fn follow(&self, snap: &Arc<Snapshot>) {
        let _ = self.to.send(snap.clone());
    }

    pub fn counts(&self) -> Vec<ProbeCount> {
        let all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows =
            all.iter().flat_map(|(service, counts)| ["good", "bad"].into_iter().zip(counts).map(move |c| (service, c)));
        rows.filter(|(_, (_, n))| **n > 0)
            .map(|(service, (result, n))| ProbeCount { service: service.to_string(), result: result.into(), count: *n })
            .collect()
    }
}

/// One probe's end.
struct Done {
    name: Box<str>,
    at: SocketAddr,
    service: Box<str>,
    shared: Arc<SharedService>,
    answer: io::Result<()>,
}

struct Probing {
    start: Instant,
    snap: Option<Arc<Snapshot>>,
    schedule: Schedule,
    random: Random,
    counts: Arc<Mutex<Counts>>,
    events: Events,
    /// The second, and events told in it.
    told: (u64, u32),
}

impl Probing {
    async fn run(mut self, mut snaps: mpsc::UnboundedReceiver<Arc<Snapshot>>) {
        let mut flying = JoinSet::new();
        loop {
            for (name, at) in self.schedule.due(self.now_ms()) {
                flying.spawn(self.ask(name, at));
            }
            let next = self.schedule.next().map(|ms| self.start + Duration::from_millis(ms));
            tokio::select! {
                snap = snaps.recv() => match snap {
                    Some(s) => self.follow(s),
                    None => return,
                },
                Some(Ok(done)) = flying.join_next() => self.settle(&done),
                () = sleep_until(next.unwrap_or(self.start).into()), if next.is_some() => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn follow(&mut self, snap: Arc<Snapshot>) {
        let same_trust = self.snap.as_ref().is_some_and(|s| s.keys.same_trust(&snap.keys));
        // one of each service before the second of any: no service waits for another's thousand
        let mut all: Vec<(usize, &Endpoint)> =
            snap.tables.services.iter().flat_map(|s| suspects(&snap.tables, s).enumerate()).collect();
        all.sort_by_key(|(rank, _)| *rank);
        let all = all.into_iter().map(|(_, e)| (e.name.clone(), e.reached_at()));
        self.schedule.follow(all, !same_trust, self.start.elapsed().as_millis() as u64);
        self.snap = Some(snap);
    }

    /// A probe of one suspect of the tables in force.
    fn ask(&self, name: Box<str>, at: SocketAddr) -> impl Future<Output = Done> + Send + 'static {
        let snap = self.snap.clone();
        async move {
            let place = snap.as_ref().and_then(|s| {
                let e = s.tables.endpoint(s.tables.endpoint_id(&name)?);
                Some((s, e, s.services.get(e.service.index())?))
            });
            let Some((snap, endpoint, shared)) = place else {
                let answer = Err(io::ErrorKind::NotFound.into());
                return Done { name, at, service: Box::default(), shared: Arc::default(), answer };
            };
            let service = snap.tables.service(endpoint.service);
            let alpn = if service.protocol == Protocol::Tcp { ALPN_TCP } else { ALPN_HTTP };
            let answer = match &endpoint.mesh {
                None => connect(at).await.map(drop),
                Some(mesh) => match caller(snap, endpoint.service, mesh) {
                    Some(peering) => handshake(at, &peering, alpn).await,
                    None => Err(io::Error::other("this host has no identity yet")),
                },
            };
            Done { name, at, service: (&*service.name).into(), shared: shared.clone(), answer }
        }
    }

    fn settle(&mut self, d: &Done) {
        let (now, good) = (self.now_ms(), d.answer.is_ok());
        if !self.schedule.done(&d.name, d.at, good, now, self.random.next()) {
            return;
        }
        {
            let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(d.service.clone()).or_default()[usize::from(!good)] += 1;
        }
        let proof = if good { Proof::Good { until_ms: now + self.schedule.window() } } else { Proof::Bad };
        if d.shared.judge(&d.name, d.at, proof, now) {
            self.tell(d, now / 1_000);
        }
    }

    fn tell(&mut self, d: &Done, second: u64) {
        if self.told.0 != second {
            self.told = (second, 0);
        }
        self.told.1 += 1;
        if self.told.1 > EVENTS_PER_SECOND {
            return self.events.lost(1);
        }
        self.events.say(if d.answer.is_ok() { "suspect_good" } else { "suspect_bad" }, |e| {
            e.service = d.service.to_string();
            e.endpoint = d.name.to_string();
            e.detail = d.answer.as_ref().err().map_or_else(String::new, io::Error::to_string);
        });
    }
}

/// As whom: a caller of that service on this host, else any instance of it. The callee admits every identity of the
/// mesh to a handshake; what it may do is not asked.
fn caller<'s>(snap: &'s Snapshot, service: ServiceId, to: &'s MeshAddress) -> Option<Peering<'s>> {
    let (t, keys) = (&snap.tables, &snap.keys);
    let callers = t.listeners.iter().filter(|l| l.service == service).chain(t.listeners.iter()).map(|l| &*l.instance);
    callers.chain(t.identities.iter().map(|i| &*i.name)).find_map(|name| keys.peering(name, to))
}

async fn connect(at: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    timeout(CONNECT, dial(at)).await.unwrap_or_else(|_| Err(late("did not take a connection", CONNECT)))
}

async fn handshake(at: SocketAddr, peering: &Peering<'_>, alpn: &'static [u8]) -> io::Result<()> {
    let io = connect(at).await?;
    timeout(HANDSHAKE, peering.probe(io, alpn)).await.unwrap_or_else(|_| Err(late("did not prove itself", HANDSHAKE)))
}

fn late(what: &str, within: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it {what} within {} s", within.as_secs()))
}
