//! Suspects: endpoints that the registry has lost and nobody has withdrawn. Only their own identity speaks for them.
//!
//! A suspect gets requests only while a handshake with exactly its identity was good within the window. `probe` makes
//! the handshakes; until the first one, the traffic of a moment ago counts, so that nothing blinks at the change.

use std::collections::HashMap;
use std::net::SocketAddr;

/// For how long a good handshake speaks for an endpoint.
pub const WINDOW_MS: u64 = 10_000;

/// What is known of one suspect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// It was not asked yet.
    #[default]
    Unknown,
    Good {
        until_ms: u64,
    },
    Bad,
}

impl Proof {
    fn holds(self, now_ms: u64) -> bool {
        matches!(self, Proof::Good { until_ms } if until_ms > now_ms)
    }

    /// As the statistics say it.
    pub fn name(self, now_ms: u64) -> &'static str {
        match self {
            Proof::Bad => "bad",
            Proof::Good { .. } if self.holds(now_ms) => "good",
            Proof::Good { .. } | Proof::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    at: SocketAddr,
    proof: Proof,
}

/// The suspects of one service, by endpoint name.
#[derive(Debug, Default)]
pub struct Suspects(HashMap<Box<str>, Suspect>);

impl Suspects {
    /// These are suspect from now on, each reached at its address: new ones are unknown, others are forgotten.
    pub fn follow<'n>(&mut self, now: impl Iterator<Item = (&'n str, SocketAddr)>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = now
            .map(|(name, at)| {
                let known = before.remove_entry(name).filter(|(_, s)| s.at == at);
                known.unwrap_or_else(|| (name.into(), Suspect { at, proof: Proof::Unknown }))
            })
            .collect();
    }

    /// It answered as itself until a moment ago. Says nothing against a probe: true only if nothing else was known.
    pub fn vouch(&mut self, name: &str, at: SocketAddr, until_ms: u64) -> bool {
        match self.0.get_mut(name) {
            Some(s) if s.at == at && s.proof == Proof::Unknown => {
                s.proof = Proof::Good { until_ms };
                true
            }
            _ => false,
        }
    }

    /// What a handshake at `at` has shown; true: that changes whether it gets requests, or it is the first word on it.
    pub fn judge(&mut self, name: &str, at: SocketAddr, proof: Proof, now_ms: u64) -> bool {
        let Some(s) = self.0.get_mut(name).filter(|s| s.at == at) else { return false };
        let before = std::mem::replace(&mut s.proof, proof);
        before.name(now_ms) != proof.name(now_ms)
    }

    /// Until when it gets requests; 0: not now.
    pub fn until(&self, name: &str) -> u64 {
        match self.0.get(name).map(|s| s.proof) {
            Some(Proof::Good { until_ms }) => until_ms,
            _ => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, Proof)> {
        self.0.iter().map(|(name, s)| (&**name, s.proof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn suspects() -> Suspects {
        let mut s = Suspects::default();
        s.follow([("a", at(1)), ("b", at(2))].into_iter());
        s
    }

    #[test]
    fn the_unknown_and_the_bad_get_nothing_and_a_good_word_lapses() {
        let mut s = suspects();
        assert_eq!(s.until("a"), 0, "unknown");
        assert!(s.judge("a", at(1), Proof::Good { until_ms: 110 }, 100));
        assert_eq!(s.until("a"), 110);
        assert!(!s.judge("a", at(1), Proof::Good { until_ms: 130 }, 105), "it was good before");
        assert!(s.judge("a", at(1), Proof::Good { until_ms: 150 }, 140), "it had lapsed");
        assert!(s.judge("a", at(1), Proof::Bad, 145));
        assert_eq!(s.until("a"), 0);
        assert!(!s.judge("a", at(1), Proof::Bad, 146));
        assert!(!s.judge("nobody", at(1), Proof::Bad, 146));
    }

    #[test]
    fn traffic_vouches_only_before_the_first_probe() {
        let mut s = suspects();
        assert!(s.vouch("a", at(1), 50) && !s.vouch("a", at(1), 60));
        assert_eq!(s.until("a"), 50);
        s.judge("b", at(2), Proof::Bad, 10);
        assert!(!s.vouch("b", at(2), 50));
        assert_eq!(s.until("b"), 0, "what was good before the probe is old news");
        assert!(!s.vouch("c", at(3), 50), "nobody suspects it");
    }

    #[test]
    fn what_is_no_longer_suspect_is_forgotten_and_a_new_address_is_a_new_suspect() {
        let mut s = suspects();
        s.vouch("a", at(1), 50);
        s.vouch("b", at(2), 50);
        s.follow([("a", at(1)), ("b", at(3))].into_iter());
        assert_eq!((s.until("a"), s.until("b")), (50, 0));
        assert!(!s.judge("b", at(2), Proof::Good { until_ms: 90 }, 10), "a probe of the old address says nothing");
        assert!(!s.vouch("b", at(2), 50), "nor does traffic to it");
        s.follow([("b", at(3))].into_iter());
        assert_eq!((s.until("a"), s.all().count()), (0, 1));
    }
}
