//! Data threads: one single-threaded event loop each; they are told what to do by message and acknowledge it.

use crate::access_log::{Log, Writer};
use crate::clock::{Clock, TICK_MS};
use crate::config::frames::Stats;
use crate::events::Events;
use crate::listener::{self, Purpose};
use crate::snapshot::Snapshot;
use crate::stack;
use crate::worker::{Random, Worker};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The ticker's period while a thread has no connection.
const IDLE_TICK_MS: u64 = 100;

/// What a data thread is told.
pub enum Command {
    /// Use these tables; answer when requests see them.
    Swap(Arc<Snapshot>, oneshot::Sender<()>),
    Listen(Purpose, TcpListener),
    Unlisten(Purpose),
    Collect(oneshot::Sender<Stats>),
    /// Accept nothing more; answer when no connection is left.
    Drain(oneshot::Sender<()>),
    /// An instance is draining: have its connections look.
    Look,
}

/// What every thread starts with.
#[derive(Clone)]
pub struct Common {
    pub start: Instant,
    pub unix_at_start_ms: u64,
    pub events: Events,
    pub log: Writer,
    pub first: Arc<Snapshot>,
}

/// The control thread's side of the data threads.
pub struct Threads {
    to: Vec<mpsc::UnboundedSender<Command>>,
}

impl Threads {
    /// Starts `n` threads.
    pub fn start(n: usize, common: &Common) -> io::Result<Threads> {
        let mut to = Vec::with_capacity(n);
        for i in 0..n {
            let (tx, rx) = mpsc::unbounded_channel();
            let common = common.clone();
            std::thread::Builder::new().name(format!("data-{i}")).spawn(move || run(i, common, rx))?;
            to.push(tx);
        }
        Ok(Threads { to })
    }

    pub fn count(&self) -> usize {
        self.to.len()
    }

    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let asked: Vec<_> = self
            .to
            .iter()
            .filter_map(|t| {
                let (tx, rx) = oneshot::channel();
                t.send(command(tx)).ok().map(|()| rx)
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for a in asked {
            answers.extend(a.await.ok());
        }
        answers
    }

    /// Returns when requests on every thread see the snapshot.
    pub async fn swap(&self, snap: &Arc<Snapshot>) {
        self.ask(|done| Command::Swap(snap.clone(), done)).await;
    }

    pub async fn collect(&self) -> Vec<Stats> {
        self.ask(Command::Collect).await
    }

    /// Returns when no thread has a connection left.
    pub async fn drain(&self) {
        self.ask(Command::Drain).await;
    }

    /// Gives each thread its socket.
    pub fn listen(&self, purpose: &Purpose, sockets: Vec<TcpListener>) {
        for (t, s) in self.to.iter().zip(sockets) {
            let _ = t.send(Command::Listen(purpose.clone(), s));
        }
    }

    pub fn unlisten(&self, purpose: &Purpose) {
        for t in &self.to {
            let _ = t.send(Command::Unlisten(purpose.clone()));
        }
    }

    pub fn look(&self) {
        for t in &self.to {
            let _ = t.send(Command::Look);
        }
    }
}

thread_local! {
    /// The thread's clock, for the hook that runs when the event loop wakes up.
    static CLOCK: std::cell::RefCell<Option<Rc<Clock>>> = const { std::cell::RefCell::new(None) };
}

fn run(index: usize, common: Common, commands: mpsc::UnboundedReceiver<Command>) {
    let woken = || CLOCK.with_borrow(|c| c.iter().for_each(|c| c.expire()));
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_unpark(woken)
        .build_local(LocalOptions::default());
    match runtime {
        Ok(rt) => rt.block_on(serve(index, common, commands)),
        Err(e) => crate::logging::log("error", "a data thread cannot start", &[("error", &e.to_string())]),
    }
}

async fn serve(index: usize, common: Common, mut commands: mpsc::UnboundedReceiver<Command>) {
    let clock = Clock::new(common.start, common.unix_at_start_ms);
    CLOCK.with_borrow_mut(|c| *c = Some(clock.clone()));
    let seed = common.start.elapsed().as_nanos() as u64
        ^ (u64::from(std::process::id()) << 32)
        ^ (index as u64) << 17
        ^ common.unix_at_start_ms;
    let w = Worker::new(
        clock,
        Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        common.events,
        Log::new(common.log),
        common.first,
    );
    tokio::task::spawn_local(tick(w.clone()));
    let mut accepting: HashMap<Purpose, JoinHandle<()>> = HashMap::new();
    while let Some(c) = commands.recv().await {
        match c {
            Command::Swap(snap, done) => {
                w.swap(snap);
                let _ = done.send(());
            }
            Command::Listen(purpose, socket) => {
                let task = tokio::task::spawn_local(listener::accept(socket, door(&w, &purpose)));
                if let Some(old) = accepting.insert(purpose, task) {
                    old.abort();
                }
            }
            Command::Unlisten(purpose) => {
                if let Some(t) = accepting.remove(&purpose) {
                    t.abort();
                }
            }
            Command::Collect(to) => {
                let _ = to.send(w.collect());
            }
            Command::Look => w.clock.changed(),
            Command::Drain(done) => {
                accepting.drain().for_each(|(_, t)| t.abort());
                w.drain();
                tokio::task::spawn_local(emptied(w.clone(), done));
            }
        }
    }
}

/// What happens to a connection that comes in by one listener.
fn door(w: &Rc<Worker>, purpose: &Purpose) -> Rc<dyn Fn(TcpStream, SocketAddr)> {
    let w = w.clone();
    match purpose {
        Purpose::Inbound => Rc::new(move |io, from| {
            tokio::task::spawn_local(stack::inbound(w.clone(), io, from));
        }),
        Purpose::Upstream(name) => {
            let name: Rc<str> = Rc::from(&**name);
            Rc::new(move |io, _| {
                tokio::task::spawn_local(stack::outbound(w.clone(), io, name.clone()));
            })
        }
    }
}

/// Ticks: each 10 ms, ten times slower while there is no connection.
async fn tick(w: Rc<Worker>) {
    loop {
        let ms = if w.connections() == 0 { IDLE_TICK_MS } else { TICK_MS };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        w.tick();
    }
}

async fn emptied(w: Rc<Worker>, done: oneshot::Sender<()>) {
    while w.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
    }
    w.log.flush();
    let _ = done.send(());
}
