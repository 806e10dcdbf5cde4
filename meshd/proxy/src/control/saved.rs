//! The last applied set on disk (tmpfs), from which a restarted proxy serves until meshd dials.
//!
//! Written behind the back of the control thread: it is told what changed, and a thread of its own writes the whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Candidate;
use crate::config::frames::Update;

/// Changes that come so close together are written together.
const GATHER: Duration = Duration::from_millis(100);
/// Of the writer's time, one part in so many is writing: a large set that changes all the time is written less often.
const SHARE: u32 = 20;

/// As sent, by id.
type Raws = BTreeMap<String, Arc<RawValue>>;

/// What an update changed; None: deleted.
struct Changed {
    update: u64,
    raws: Vec<(String, Option<Arc<RawValue>>)>,
}

/// The control thread's side of the writer.
pub struct Saver(Sender<Changed>);

impl Saver {
    pub fn start(run_dir: PathBuf) -> io::Result<Saver> {
        let (to, changes) = channel();
        std::thread::Builder::new().name("saver".into()).spawn(move || run(&run_dir, &changes))?;
        Ok(Saver(to))
    }

    /// This is in force now.
    pub fn applied(&self, candidate: &Candidate) {
        let _ = self.0.send(Changed { update: candidate.update, raws: candidate.raws().collect() });
    }
}

fn run(run_dir: &Path, changes: &Receiver<Changed>) {
    let (mut raws, mut pause) = (Raws::new(), GATHER);
    while let Ok(first) = changes.recv() {
        let mut update = take(&mut raws, first);
        let until = Instant::now() + pause;
        let over = loop {
            match changes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => update = take(&mut raws, next),
                Err(e) => break e == RecvTimeoutError::Disconnected,
            }
        };
        let began = Instant::now();
        if let Err(e) = save(run_dir, update, &raws) {
            crate::logging::log("error", "the applied set cannot be saved", &[("error", &e.to_string())]);
        }
        pause = GATHER.max(began.elapsed() * SHARE);
        if over {
            return;
        }
    }
}

fn take(raws: &mut Raws, changed: Changed) -> u64 {
    for (id, raw) in changed.raws {
        match raw {
            Some(raw) => _ = raws.insert(id, raw),
            None => _ = raws.remove(&id),
        }
    }
    changed.update
}

#[derive(Serialize)]
struct Written<'a> {
    update: u64,
    resources: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    update: u64,
    resources: Vec<Box<RawValue>>,
}

/// `<run-dir>/proxy/last.json`.
pub fn last_path(run_dir: &Path) -> PathBuf {
    run_dir.join("proxy").join("last.json")
}

/// Writes the set, private keys included: 0600, by an atomic rename, so that a reader never sees half a file.
fn save(run_dir: &Path, update: u64, raws: &Raws) -> io::Result<()> {
    let path = last_path(run_dir);
    let directory = run_dir.join("proxy");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let text = serde_json::to_vec(&Written { update, resources: raws.values().map(|raw| &**raw).collect() })?;
    let new = directory.join(format!("last.json.{}", std::process::id()));
    // A file left by a killed process with the same number may have other rights: start from none.
    if let Err(e) = fs::remove_file(&new)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// The saved set as a full update for `Holder::prepare`; `None`: nothing was saved.
pub fn restore(run_dir: &Path) -> io::Result<Option<Update>> {
    let text = match fs::read(last_path(run_dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let Read { update, resources } = serde_json::from_slice(&text)?;
    Ok(Some(Update { update, full: true, put: resources, delete: Vec::new() }))
}
