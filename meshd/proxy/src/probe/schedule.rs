//! Which suspects are probed when, as a decider: time and randomness come in, nothing is awaited.
//!
//! New ones at once, but spread: a brake may turn thousands suspect in one update. Then every three seconds or so,
//! each on its own beat. Those that answer badly may hold only half of the places, so that a rack that is really gone
//! does not keep the living from being asked in time.

use crate::suspect::WINDOW_MS;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Between two probes of one endpoint.
pub const INTERVAL_MS: u64 = 3_000;
/// Probes under way at once. A dead host holds its place for the connect timeout of a second.
pub const PLACES: usize = 512;
/// A handshake costs 0.7 ms of CPU here: at most two thirds of a core, whatever is suspect.
const PER_MS: u64 = 1;

#[derive(Debug)]
struct Entry {
    at: SocketAddr,
    due_ms: u64,
    flying: bool,
    bad: bool,
}

/// All suspects, by endpoint name.
#[derive(Debug, Default)]
pub struct Schedule {
    all: HashMap<Box<str>, Entry>,
    flying: usize,
    flying_bad: usize,
}

impl Schedule {
    /// These are suspect from now on; new ones are due in the order given. `anew`: so are all others.
    pub fn follow(&mut self, now: impl Iterator<Item = (Box<str>, SocketAddr)>, anew: bool, now_ms: u64) {
        let mut before = std::mem::take(&mut self.all);
        let mut new = 0;
        for (name, at) in now {
            let known = before.remove(&name).filter(|e| e.at == at);
            let fresh = known.is_none();
            let mut e = known.unwrap_or(Entry { at, due_ms: 0, flying: false, bad: false });
            if fresh || anew {
                e.due_ms = now_ms + new / PER_MS;
                new += 1;
            }
            self.all.insert(name, e);
        }
        self.recount();
    }

    /// Takes out those whose time has come, as far as there are places.
    pub fn due(&mut self, now_ms: u64) -> Vec<(Box<str>, SocketAddr)> {
        let mut due: Vec<_> = self.all.iter_mut().filter(|(_, e)| !e.flying && e.due_ms <= now_ms).collect();
        due.sort_unstable_by_key(|(_, e)| (e.bad, e.due_ms));
        let mut taken = Vec::new();
        for (name, e) in due {
            if self.flying >= PLACES || (e.bad && self.flying_bad >= PLACES / 2) {
                break;
            }
            e.flying = true;
            self.flying += 1;
            self.flying_bad += usize::from(e.bad);
            taken.push((name.clone(), e.at));
        }
        taken
    }

    /// A probe ended; false: nobody wants to know any more. `random` shifts the next one.
    pub fn done(&mut self, name: &str, at: SocketAddr, good: bool, now_ms: u64, random: u64) -> bool {
        let interval = self.interval();
        let Some(e) = self.all.get_mut(name).filter(|e| e.at == at && e.flying) else { return false };
        // a quarter around the interval: what came at one moment does not stay together
        e.due_ms = now_ms + interval * 7 / 8 + random % (interval / 4);
        e.flying = false;
        e.bad = !good;
        self.recount();
        true
    }

    /// When to look again; None: when a probe ends, or never.
    pub fn next(&self) -> Option<u64> {
        let waiting = self.all.values().filter(|e| !(e.flying || e.bad && self.flying_bad >= PLACES / 2));
        if self.flying >= PLACES { None } else { waiting.map(|e| e.due_ms).min() }
    }

    /// Three seconds, as long as one process can keep that up.
    fn interval(&self) -> u64 {
        INTERVAL_MS.max(self.all.len() as u64 / PER_MS)
    }

    /// For how long a good probe speaks for an endpoint: never so short that the next one cannot be made in time.
    pub fn window(&self) -> u64 {
        WINDOW_MS.max(3 * self.interval())
    }

    fn recount(&mut self) {
        self.flying = self.all.values().filter(|e| e.flying).count();
        self.flying_bad = self.all.values().filter(|e| e.flying && e.bad).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

    fn some(n: usize) -> impl Iterator<Item = (Box<str>, SocketAddr)> {
        (0..n).map(|i| (format!("api/n/{i}").into(), SocketAddr::from(AT)))
    }

    fn names(taken: &[(Box<str>, SocketAddr)]) -> Vec<&str> {
        taken.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn the_first_probe_is_at_once_and_the_next_after_about_three_seconds() {
        let mut s = Schedule::default();
        assert_eq!(s.next(), None);
        s.follow(some(1), false, 100);
        assert_eq!(names(&s.due(100)), ["api/n/0"]);
        assert!(s.due(9_999).is_empty() && s.next().is_none(), "it is under way");
        for random in [0, 1, u64::MAX] {
            assert!(s.done("api/n/0", AT.into(), true, 200, random));
            let next = s.next().unwrap();
            assert!((2_825..3_575).contains(&next), "{next}");
            assert!(s.due(next - 1).is_empty());
            assert_eq!(s.due(next).len(), 1);
        }
    }

    #[test]
    fn a_thousand_at_once_are_spread_and_each_is_asked_within_the_window() {
        let mut s = Schedule::default();
        s.follow(some(1_000), false, 0);
        let (mut now, mut asked, mut most) = (0, HashMap::<Box<str>, u64>::new(), 0);
        while now < 60_000 {
            now = s.next().unwrap().max(now);
            let taken = s.due(now);
            most = most.max(taken.len());
            for (name, at) in taken {
                if let Some(before) = asked.insert(name.clone(), now) {
                    assert!(now - before < WINDOW_MS / 2, "{name} after {} ms", now - before);
                }
                assert!(s.done(&name, at, true, now, now.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7));
            }
        }
        assert_eq!(asked.len(), 1_000);
        assert!(most < 20, "{most} in one millisecond");
        assert_eq!(s.window(), WINDOW_MS);
    }

    #[test]
    fn what_is_too_much_for_three_seconds_is_asked_less_often_and_believed_longer() {
        let mut s = Schedule::default();
        s.follow(some(10_000), false, 0);
        assert_eq!((s.interval(), s.window()), (10_000, 30_000));
    }

    #[test]
    fn the_dead_hold_half_of_the_places_at_most() {
        let mut s = Schedule::default();
        s.follow(some(2_000), false, 0);
        let first = s.due(10_000);
        assert_eq!(first.len(), PLACES);
        assert_eq!(s.next(), None, "no place is free");
        for (name, at) in &first {
            assert!(s.done(name, *at, false, 10_000, 0));
        }
        let rest = s.due(10_000);
        assert_eq!(rest.len(), PLACES, "those that were not asked yet come first");
        assert!(rest.iter().all(|r| !first.contains(r)));
        rest.iter().for_each(|(name, at)| assert!(s.done(name, *at, true, 10_000, 0)));
        let mut s2 = Schedule::default();
        s2.follow(some(PLACES), false, 0);
        let all = s2.due(10_000);
        all.iter().for_each(|(name, at)| assert!(s2.done(name, *at, false, 10_000, 0)));
        assert_eq!(s2.due(20_000).len(), PLACES / 2);
        assert_eq!(s2.next(), None, "the other half is kept for those that answer");
    }

    #[test]
    fn what_is_no_longer_suspect_is_not_asked_and_a_late_answer_is_not_heard() {
        let mut s = Schedule::default();
        s.follow(some(2), false, 0);
        assert_eq!(s.due(10).len(), 2);
        s.follow(some(1), false, 20);
        assert!(!s.done("api/n/1", AT.into(), true, 30, 0));
        assert!(s.done("api/n/0", AT.into(), true, 30, 0));
        s.follow(some(1), true, 40);
        assert_eq!(names(&s.due(40)), ["api/n/0"], "with other roots everybody is asked anew");
        s.follow(std::iter::once(("api/n/0".into(), SocketAddr::from(([127, 0, 0, 1], 10)))), false, 50);
        assert!(!s.done("api/n/0", AT.into(), true, 60, 0), "it was another address that answered");
        assert_eq!(s.due(60).len(), 1);
    }
}
