//! Things that happened, for meshd: a bounded queue that drops and counts, never waits.

use crate::clock::unix_seconds;
use crate::config::frames::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::mpsc;

/// Events held while nobody reads them.
const QUEUE: usize = 1024;

/// Where any thread says what happened.
#[derive(Clone)]
pub struct Events {
    to: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    pub fn channel() -> (Events, mpsc::Receiver<Event>) {
        let (to, from) = mpsc::channel(QUEUE);
        (Events { to, dropped: Arc::default() }, from)
    }

    /// `kind` as in the contract; the time is filled in here.
    pub fn say(&self, kind: &str, fill: impl FnOnce(&mut Event)) {
        let mut e = Event { at: unix_seconds(), kind: kind.into(), ..Event::default() };
        fill(&mut e);
        if self.to.try_send(e).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Counts an event that was taken from the queue and could not be delivered.
    pub fn lost(&self, n: u64) {
        self.dropped.fetch_add(n, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (e, mut rx) = Events::channel();
        for _ in 0..QUEUE + 5 {
            e.say("denied", |e| e.service = "api".into());
        }
        assert_eq!(e.dropped(), 5);
        let first = rx.try_recv().unwrap();
        assert_eq!((first.kind.as_str(), first.service.as_str()), ("denied", "api"));
        assert!(first.at > 1.7e9);
    }
}
