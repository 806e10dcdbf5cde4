//! Retries are a share of requests plus a floor per second: one budget per destination service, for all threads.
//!
//! A request costs one relaxed add on a padded counter; only a retry looks at the rest. In any window of ten seconds
//! the retries are at most `percent` of the requests that began in it, plus the floor of each second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds over which the share is taken.
const WINDOW_S: usize = 10;

#[repr(align(128))]
#[derive(Default)]
struct Padded(AtomicU64);

/// Shared by all threads; `roll` is called once per second by one of them.
#[derive(Default)]
pub struct Budget {
    requests: Padded,
    retries: Padded,
    /// `requests` and `retries` as they were a window ago.
    requests_before: AtomicU64,
    retries_before: AtomicU64,
    /// second << 32 | retries taken from that second's floor
    floor: AtomicU64,
    exhausted: AtomicU64,
}

/// Who rolls the window keeps this: totals at each of the last seconds.
#[derive(Default)]
pub struct History {
    marks: [(u64, u64); WINDOW_S],
    next: usize,
}

impl Budget {
    #[inline]
    pub fn request(&self) {
        self.requests.0.fetch_add(1, Relaxed);
    }

    /// Takes one retry at second `now_s`; false: there is none left.
    pub fn take(&self, percent: u32, min_per_second: u32, now_s: u64) -> bool {
        let second = now_s & 0xffff_ffff;
        let floor = self.floor.fetch_update(Relaxed, Relaxed, |f| {
            let used = if f >> 32 == second { f & 0xffff_ffff } else { 0 };
            (used < u64::from(min_per_second)).then_some(second << 32 | (used + 1))
        });
        if floor.is_ok() {
            return true;
        }
        let allowed = (self.requests.0.load(Relaxed).saturating_sub(self.requests_before.load(Relaxed)))
            * u64::from(percent)
            / 10_000;
        let before = self.retries_before.load(Relaxed);
        let share =
            self.retries.0.fetch_update(Relaxed, Relaxed, |r| (r.saturating_sub(before) < allowed).then_some(r + 1));
        if share.is_err() {
            self.exhausted.fetch_add(1, Relaxed);
        }
        share.is_ok()
    }

    /// How often a retry was refused.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Relaxed)
    }

    /// Moves the window on by one second.
    pub fn roll(&self, h: &mut History) {
        let now = (self.requests.0.load(Relaxed), self.retries.0.load(Relaxed));
        if let Some(m) = h.marks.get_mut(h.next) {
            self.requests_before.store(m.0, Relaxed);
            self.retries_before.store(m.1, Relaxed);
            *m = now;
        }
        h.next = (h.next + 1) % WINDOW_S;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn storm(threads: u64) -> u64 {
        let b = Arc::new(Budget::default());
        let jobs: Vec<_> = (0..threads)
            .map(|_| {
                let b = b.clone();
                std::thread::spawn(move || {
                    let n = 8000 / threads;
                    for _ in 0..n {
                        b.request();
                    }
                    n
                })
            })
            .collect();
        assert_eq!(jobs.into_iter().map(|j| j.join().unwrap()).sum::<u64>(), 8000);
        let jobs: Vec<_> = (0..threads)
            .map(|_| {
                let b = b.clone();
                std::thread::spawn(move || (0..16_000 / threads).filter(|_| b.take(2000, 10, 7)).count() as u64)
            })
            .collect();
        jobs.into_iter().map(|j| j.join().unwrap()).sum()
    }

    #[test]
    fn exact_with_one_and_with_four_threads() {
        assert_eq!(storm(1), 8000 / 5 + 10);
        assert_eq!(storm(4), 8000 / 5 + 10);
    }

    #[test]
    fn the_floor_comes_back_each_second_and_the_share_leaves_with_its_window() {
        let (b, mut h) = (Budget::default(), History::default());
        (0..100).for_each(|_| b.request());
        assert_eq!((0..100).filter(|_| b.take(1000, 2, 1)).count(), 12);
        assert_eq!(b.exhausted(), 88);
        assert_eq!((0..9).filter(|_| b.take(1000, 2, 2)).count(), 2);
        for _ in 0..=WINDOW_S {
            b.roll(&mut h);
        }
        assert_eq!((0..9).filter(|_| b.take(1000, 0, 3)).count(), 0, "the requests are outside the window");
        (0..50).for_each(|_| b.request());
        assert_eq!((0..9).filter(|_| b.take(1000, 0, 3)).count(), 5);
    }
}
