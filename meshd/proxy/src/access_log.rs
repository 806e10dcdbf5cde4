//! One JSON line per request, written by one thread per process behind a bounded queue; lines are dropped, never waited for.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Batches held while the disk is slow.
const QUEUE: usize = 256;
/// A thread hands its lines on at this size, and at each tick.
const BATCH: usize = 32 * 1024;

enum Job {
    Lines(Vec<u8>),
    /// Empty: stdout.
    Path(String),
    Flush(SyncSender<()>),
}

/// The way to the writer thread.
#[derive(Clone)]
pub struct Writer {
    to: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    pub fn start() -> std::io::Result<Writer> {
        let (to, from) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&from))?;
        Ok(Writer { to, dropped: Arc::default() })
    }

    /// Lines from now on go to `path`; empty: stdout.
    pub fn path(&self, path: &str) {
        let _ = self.to.send(Job::Path(path.into()));
    }

    /// Returns when all that was handed over before is written.
    pub fn flush(&self) {
        let (tx, rx) = sync_channel(1);
        if self.to.send(Job::Flush(tx)).is_ok() {
            let _ = rx.recv_timeout(std::time::Duration::from_secs(1));
        }
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

fn open(path: &str) -> Option<File> {
    if path.is_empty() {
        return None;
    }
    match OpenOptions::new().create(true).append(true).mode(0o640).open(path) {
        Ok(f) => Some(f),
        Err(e) => {
            crate::logging::log(
                "error",
                "access log cannot be opened, lines go to stdout",
                &[("path", path), ("error", &e.to_string())],
            );
            None
        }
    }
}

fn write_all(from: &Receiver<Job>) {
    let mut file = None;
    while let Ok(job) = from.recv() {
        match job {
            Job::Path(p) => file = open(&p),
            Job::Flush(done) => {
                let _ = done.try_send(());
            }
            Job::Lines(l) => {
                let r = match &mut file {
                    Some(f) => f.write_all(&l),
                    None => std::io::stdout().lock().write_all(&l),
                };
                if let Err(e) = r {
                    crate::logging::log("error", "access log cannot be written", &[("error", &e.to_string())]);
                }
            }
        }
    }
}

/// What one line says; strings may hold anything.
pub struct Entry<'a> {
    pub at_ms: u64,
    pub reporter: &'a str,
    pub source: &'a str,
    pub destination: &'a str,
    pub endpoint: &'a str,
    pub method: &'a [u8],
    pub path: &'a [u8],
    pub code: u16,
    pub flags: &'a str,
    pub origin: &'a str,
    pub duration_ms: f64,
    pub attempts: u32,
    pub trace: &'a [u8],
}

/// One thread's lines on their way to the writer.
pub struct Log {
    to: Writer,
    batch: RefCell<Vec<u8>>,
}

impl Log {
    pub fn new(to: Writer) -> Log {
        Log { to, batch: RefCell::default() }
    }

    pub fn write(&self, e: &Entry<'_>) {
        let mut b = self.batch.borrow_mut();
        line(e, &mut b);
        if b.len() >= BATCH {
            self.hand_over(&mut b);
        }
    }

    /// Hands over what waits; called at each tick.
    #[inline]
    pub fn flush(&self) {
        let mut b = self.batch.borrow_mut();
        if !b.is_empty() {
            self.hand_over(&mut b);
        }
    }

    fn hand_over(&self, b: &mut Vec<u8>) {
        let lines = std::mem::take(b);
        let n = lines.iter().filter(|c| **c == b'\n').count() as u64;
        if self.to.to.try_send(Job::Lines(lines)).is_err() {
            self.to.dropped.fetch_add(n, Relaxed);
        }
    }
}

fn line(e: &Entry<'_>, o: &mut Vec<u8>) {
    let _ = write!(o, "{{\"at\":{}.{:03},\"reporter\":", e.at_ms / 1000, e.at_ms % 1000);
    for (name, value) in [
        ("", e.reporter.as_bytes()),
        ("source", e.source.as_bytes()),
        ("destination", e.destination.as_bytes()),
        ("endpoint", e.endpoint.as_bytes()),
        ("method", e.method),
        ("path", e.path),
        ("flags", e.flags.as_bytes()),
        ("origin", e.origin.as_bytes()),
        ("trace", e.trace),
    ] {
        if !name.is_empty() {
            let _ = write!(o, ",\"{name}\":");
        }
        quote(value, o);
    }
    let _ = writeln!(o, ",\"code\":{},\"duration_ms\":{:.3},\"attempts\":{}}}", e.code, e.duration_ms, e.attempts);
}

/// A JSON string of any bytes; what is not ASCII text is written `\u00xx`, so that a line stays one line.
fn quote(v: &[u8], o: &mut Vec<u8>) {
    o.push(b'"');
    for &c in v {
        match c {
            b'"' | b'\\' => o.extend_from_slice(&[b'\\', c]),
            0x20..=0x7e => o.push(c),
            _ => {
                let _ = write!(o, "\\u{c:04x}");
            }
        }
    }
    o.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_strings_stay_inside_one_json_line() {
        let mut o = Vec::new();
        let e = Entry {
            at_ms: 1_700_000_000_007,
            reporter: "source",
            source: "we\"b\n",
            destination: "api",
            endpoint: "",
            method: b"GET",
            path: b"/\r\n\x00\xff\\\"",
            code: 200,
            flags: "",
            origin: "a\u{2028}b",
            duration_ms: 1.5,
            attempts: 1,
            trace: b"",
        };
        line(&e, &mut o);
        assert_eq!(o.iter().filter(|c| **c == b'\n').count(), 1);
        let v: serde_json::Value = serde_json::from_slice(&o).unwrap();
        assert_eq!(v["source"], "we\"b\n");
        assert_eq!(v["path"], "/\r\n\0\u{ff}\\\"");
        assert_eq!(v["at"], 1_700_000_000.007);
        assert_eq!(v["code"], 200);
    }
}
