//! The control thread: owns what is in force, speaks with meshd, binds ports, starts and ends the data threads.
//!
//! Nothing here is on a request's path. What can wait for the disk or for meshd happens here and nowhere else.

mod listeners;
mod socket;
mod telemetry;

use crate::access_log::Writer;
use crate::clock::{unix_ms, unix_seconds};
use crate::config::SCHEMA;
use crate::config::frames::{Applied, Config, Drain, DrainScope, Event, FromProxy, Hello, Rejected, ToProxy, Update};
use crate::control::{self, Holder, Saver};
use crate::events::Events;
use crate::logging::log;
use crate::probe::Prober;
use crate::runtime::{Common, Threads};
use crate::snapshot::{Registry, Snapshot};
use listeners::Listeners;
use socket::{Incoming, Meshd};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// With no meshd after this long, the saved set is put in force.
const ALONE: Duration = Duration::from_secs(3);
/// Housekeeping: retries of ports, saving, the end of drains; every tenth time telemetry.
const BEAT: Duration = Duration::from_millis(100);
const BEATS_PER_SECOND: u64 = 10;
/// A drain asked for by a signal.
const SIGNAL_DRAIN_S: f64 = 30.0;
/// Optional behaviour that meshd may compile for.
const FEATURES: [&str; 4] = ["http1", "tcp", "faults", "revocations"];

/// What `meshd-proxy run` was told.
pub struct Options {
    pub run_dir: PathBuf,
    pub generation: u64,
    pub threads: usize,
}

struct Proxy {
    options: Options,
    start: Instant,
    started: f64,
    holder: Holder,
    registry: Registry,
    snap: Arc<Snapshot>,
    threads: Rc<Threads>,
    prober: Prober,
    listeners: Listeners,
    events: Events,
    queue: mpsc::Receiver<Event>,
    writer: Writer,
    log_path: String,
    meshd: Option<Meshd>,
    dialed: bool,
    saver: Saver,
    draining_instances: Vec<(String, Instant)>,
    done_tx: mpsc::Sender<()>,
    draining: bool,
}

/// Runs until drained. An error: it could not start.
pub fn run(options: Options) -> io::Result<()> {
    let open_files = crate::sys::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async {
        // before anything says that we are here, so that a signal is never lost
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = socket::bind(&options.run_dir, options.generation)?;
        let (done_tx, mut done) = mpsc::channel(1);
        let mut p = Proxy::new(options, done_tx)?;
        log(
            "info",
            "started",
            &[
                ("generation", p.options.generation.to_string().as_str()),
                ("threads", p.threads.count().to_string().as_str()),
                ("open_files", open_files.to_string().as_str()),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
        );
        p.serve(&listener, &mut term, &mut int, &mut done).await;
        let path = socket::path(&p.options.run_dir, p.options.generation);
        let _ = std::fs::remove_file(path);
        p.writer.flush();
        log("info", "ended", &[]);
        Ok(())
    })
}

impl Proxy {
    fn new(options: Options, done_tx: mpsc::Sender<()>) -> io::Result<Proxy> {
        let (start, started) = (Instant::now(), unix_seconds());
        let (events, queue) = Events::channel();
        let writer = Writer::start()?;
        let registry = Registry::default();
        let snap = Arc::new(Snapshot::default());
        let common = Common {
            start,
            unix_at_start_ms: unix_ms(),
            events: events.clone(),
            log: writer.clone(),
            first: snap.clone(),
        };
        let threads = Rc::new(Threads::start(options.threads, &common)?);
        let saver = Saver::start(options.run_dir.clone())?;
        Ok(Proxy {
            options,
            start,
            started,
            holder: Holder::default(),
            registry,
            snap,
            threads,
            prober: Prober::start(start, events.clone())?,
            listeners: Listeners::default(),
            events,
            queue,
            writer,
            log_path: String::new(),
            meshd: None,
            dialed: false,
            saver,
            draining_instances: Vec::new(),
            done_tx,
            draining: false,
        })
    }

    async fn serve(
        &mut self,
        listener: &UnixListener,
        term: &mut tokio::signal::unix::Signal,
        int: &mut tokio::signal::unix::Signal,
        done: &mut mpsc::Receiver<()>,
    ) {
        let (tx, mut incoming) = mpsc::channel(16);
        let mut beat = tokio::time::interval(BEAT);
        let (mut beats, mut connection) = (0u64, 0u64);
        let alone = tokio::time::sleep(ALONE);
        tokio::pin!(alone);
        let mut waiting = true;
        loop {
            let deaf = self.meshd.as_ref().is_none_or(Meshd::is_behind);
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((s, _)) = accepted && socket::is_ours(&s) {
                        connection += 1;
                        // the newest wins: a frozen or replaced meshd must not keep its successor out
                        self.meshd = Some(Meshd::start(connection, s, tx.clone()));
                        self.dialed = true;
                        self.say(FromProxy::Hello(self.hello()));
                    }
                }
                Some((from, message)) = incoming.recv() => self.hear(from, message).await,
                Some(e) = self.queue.recv(), if !deaf => self.tell(e),
                _ = beat.tick() => {
                    beats += 1;
                    self.housekeeping(beats).await;
                }
                () = &mut alone, if waiting => {
                    waiting = false;
                    if !self.dialed {
                        self.restore().await;
                    }
                }
                _ = term.recv() => self.drain(SIGNAL_DRAIN_S),
                _ = int.recv() => self.drain(SIGNAL_DRAIN_S),
                _ = done.recv() => break,
            }
        }
        self.events.say("drained", |e| e.detail = "proxy".into());
        while let Ok(e) = self.queue.try_recv() {
            self.tell(e);
        }
        if let Some(m) = self.meshd.take() {
            m.finish().await;
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            generation: self.options.generation,
            pid: std::process::id(),
            started: self.started,
            features: FEATURES.map(String::from).to_vec(),
            holds: self.holder.holds(),
        }
    }

    fn say(&self, frame: FromProxy) {
        if let Some(m) = &self.meshd {
            m.say(&frame);
        }
    }

    async fn hear(&mut self, from: u64, message: Incoming) {
        if self.meshd.as_ref().is_none_or(|m| m.number() != from) {
            return; // what an older connection still had to say
        }
        match message {
            Incoming::Closed(why) => {
                if !why.is_empty() {
                    log("warning", "control connection closed", &[("error", &why)]);
                }
                self.meshd = None;
            }
            Incoming::Unreadable(rejected) => self.say(FromProxy::Rejected(rejected)),
            Incoming::Frame(ToProxy::Update(u)) => {
                let answer = self.apply(&u).await;
                self.say(answer);
            }
            Incoming::Frame(ToProxy::Scrape(id)) => {
                let stats = self.stats(id).await;
                self.say(FromProxy::Stats(stats));
            }
            Incoming::Frame(ToProxy::Dump(id)) => {
                self.say(FromProxy::Config(Config { id, resources: self.holder.dump() }))
            }
            Incoming::Frame(ToProxy::Drain(d)) => self.told_to_drain(&d),
        }
    }

    /// Puts an update in force on every thread, wholly or not at all.
    async fn apply(&mut self, u: &Update) -> FromProxy {
        let candidate = match self.holder.prepare(u) {
            Ok(c) => c,
            Err(r) => return FromProxy::Rejected(r),
        };
        let snap = match self.registry.snapshot(candidate.tables.clone(), &self.snap) {
            Ok(s) => Arc::new(s),
            Err(e) => {
                return FromProxy::Rejected(Rejected {
                    update: u.update,
                    resource: e.resource,
                    path: e.path,
                    reason: e.reason,
                });
            }
        };
        self.prober.follow(&snap);
        self.threads.swap(&snap).await;
        let before = std::mem::replace(&mut self.snap, snap);
        self.saver.applied(&candidate);
        self.holder.commit(candidate);
        if !self.draining && !self.snap.tables.listens_as(&before.tables) {
            self.listeners.want(&self.snap.tables, &self.threads, &self.events);
        }
        let path = self.snap.tables.settings.as_ref().map_or("", |s| &s.access_log.path);
        if path != self.log_path {
            self.log_path = path.into();
            self.writer.path(path);
        }
        FromProxy::Applied(Applied { update: u.update })
    }

    /// Serves from the set that was applied last, when no meshd is there to say better.
    async fn restore(&mut self) {
        match control::restore(&self.options.run_dir) {
            Ok(Some(u)) => {
                if let FromProxy::Rejected(r) = self.apply(&u).await {
                    log(
                        "error",
                        "the saved set cannot be used",
                        &[("resource", &r.resource), ("path", &r.path), ("reason", &r.reason)],
                    );
                } else {
                    log("warning", "no meshd: serving from the saved set", &[("update", &u.update.to_string())]);
                }
            }
            Ok(None) => {}
            Err(e) => log("error", "the saved set cannot be read", &[("error", &e.to_string())]),
        }
    }

    async fn housekeeping(&mut self, beats: u64) {
        if !self.draining {
            self.listeners.retry(beats, &self.threads, &self.events);
        }
        self.end_drains();
        if beats.is_multiple_of(BEATS_PER_SECOND) {
            self.second().await;
        }
    }

    fn told_to_drain(&mut self, d: &Drain) {
        match d.scope {
            DrainScope::Proxy => self.drain(d.seconds),
            DrainScope::Instance => {
                if let Some(i) = self.registry.inbound(&d.name) {
                    i.drain();
                    self.threads.look();
                    let at = Instant::now() + Duration::from_secs_f64(d.seconds.clamp(0.0, 86_400.0));
                    self.draining_instances.push((d.name.clone(), at));
                }
            }
        }
    }

    /// Tells of instances that have no connection left, or whose time is over.
    fn end_drains(&mut self) {
        let now = Instant::now();
        let (registry, events) = (&self.registry, &self.events);
        self.draining_instances.retain(|(name, at)| {
            let over = *at <= now || registry.inbound(name).is_none_or(|i| i.open() == 0);
            if over {
                events.say("drained", |e| e.endpoint = name.clone());
            }
            !over
        });
    }

    /// Accepts nothing more; ends when the last connection did, or after `seconds`.
    fn drain(&mut self, seconds: f64) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        log("info", "draining", &[("seconds", &seconds.to_string())]);
        self.listeners.forget();
        let (threads, done) = (self.threads.clone(), self.done_tx.clone());
        let limit = Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0));
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(limit, threads.drain()).await;
            let _ = done.send(()).await;
        });
    }
}
