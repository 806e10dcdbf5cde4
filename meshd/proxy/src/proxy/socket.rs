//! The control socket: one connection to meshd at a time, frames in, frames out.

use crate::config::frames::{FromProxy, Rejected, ToProxy};
use crate::control::{FrameDecoder, encode};
use std::cell::Cell;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Frames that may wait for a slow meshd before telemetry is dropped.
const BEHIND: usize = 64;
/// How long a leaving proxy waits for its last words to be taken.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);

/// `<run-dir>/proxy-<generation>.sock`.
pub fn path(run_dir: &Path, generation: u64) -> PathBuf {
    run_dir.join(format!("proxy-{generation}.sock"))
}

/// Listens with mode 0600 from the first moment: bound under another name, then renamed.
pub fn bind(run_dir: &Path, generation: u64) -> io::Result<UnixListener> {
    let path = path(run_dir, generation);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is served by another proxy", path.display())));
    }
    let new = run_dir.join(format!(".proxy-{generation}.{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, &path)?;
    Ok(listener)
}

/// Whether the peer runs as our user or as root.
pub fn is_ours(s: &UnixStream) -> bool {
    let ours = s.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == crate::sys::effective_uid());
    if !ours {
        crate::logging::log("warning", "control connection of another user refused", &[]);
    }
    ours
}

/// What came in.
pub enum Incoming {
    Frame(ToProxy),
    /// A frame that is not what the contract says.
    Unreadable(Rejected),
    /// The end; why, if it was not meshd's wish.
    Closed(String),
}

/// One connection to meshd.
pub struct Meshd {
    number: u64,
    out: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Rc<Cell<usize>>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Meshd {
    pub fn start(number: u64, s: UnixStream, to: mpsc::Sender<(u64, Incoming)>) -> Meshd {
        let (read, write) = s.into_split();
        let (out, frames) = mpsc::unbounded_channel();
        let waiting = Rc::new(Cell::new(0));
        let reader = tokio::task::spawn_local(async move {
            let why = read_all(number, read, &to).await.err().map_or_else(String::new, |e| e.to_string());
            let _ = to.send((number, Incoming::Closed(why))).await;
        });
        let writer = tokio::task::spawn_local(write_all(write, frames, waiting.clone()));
        Meshd { number, out, waiting, reader, writer }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Too slow for telemetry just now.
    pub fn is_behind(&self) -> bool {
        self.waiting.get() >= BEHIND
    }

    pub fn say(&self, frame: &FromProxy) {
        match encode(frame) {
            Ok(bytes) => {
                self.waiting.set(self.waiting.get() + 1);
                let _ = self.out.send(bytes);
            }
            Err(e) => crate::logging::log("error", "a frame cannot be sent", &[("error", &e.to_string())]),
        }
    }

    /// Lets what was said be taken, then closes.
    pub async fn finish(mut self) {
        let (dead, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.out, dead));
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.writer).await;
    }
}

impl Drop for Meshd {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn read_all(number: u64, mut s: OwnedReadHalf, to: &mpsc::Sender<(u64, Incoming)>) -> io::Result<()> {
    let (mut decoder, mut bytes) = (FrameDecoder::default(), vec![0; 64 * 1024]);
    loop {
        let n = s.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        decoder.push(&bytes[..n]);
        while let Some(json) = decoder.next_frame().map_err(io::Error::other)? {
            let message = match ToProxy::parse(json) {
                Ok(f) => Incoming::Frame(f),
                Err(e) => Incoming::Unreadable(Rejected {
                    update: number_of(json),
                    resource: e.resource,
                    path: e.path,
                    reason: e.reason,
                }),
            };
            if to.send((number, message)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The update's number in a frame that cannot be read otherwise, 0: none.
fn number_of(json: &[u8]) -> u64 {
    let v: Option<serde_json::Value> = serde_json::from_slice(json).ok();
    v.and_then(|v| v.get("update")?.as_u64()).unwrap_or(0)
}

async fn write_all(mut s: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Vec<u8>>, waiting: Rc<Cell<usize>>) {
    while let Some(f) = frames.recv().await {
        let sent = s.write_all(&f).await;
        waiting.set(waiting.get().saturating_sub(1));
        if sent.is_err() {
            return;
        }
    }
}
