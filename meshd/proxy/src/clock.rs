//! One coarse clock and one ticker per thread: deadlines are integers in slots, no timer per request.
//!
//! A slot belongs to a connection's task and is also the way to wake it: when its deadline passed, when the tables
//! changed, when the proxy drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The ticker's period; deadlines are this coarse.
pub const TICK_MS: u64 = 10;
/// After so many uses the cached time is read anew, even within one turn of the event loop.
const USES: u32 = 8;
const NEVER: u64 = u64::MAX;

struct Slot {
    at_ms: u64,
    fired: bool,
    waker: Option<Waker>,
}

/// A thread's time and deadlines.
pub struct Clock {
    start: Instant,
    unix_at_start_ms: u64,
    cached_ns: Cell<u64>,
    uses: Cell<u32>,
    coarse_ms: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    generation: Cell<u64>,
}

impl Clock {
    /// `start` is shared by all threads, so that their times compare.
    pub fn new(start: Instant, unix_at_start_ms: u64) -> Rc<Clock> {
        Rc::new(Clock {
            start,
            unix_at_start_ms,
            cached_ns: Cell::new(0),
            uses: Cell::new(0),
            coarse_ms: Cell::new(start.elapsed().as_millis() as u64),
            slots: RefCell::default(),
            free: RefCell::default(),
            generation: Cell::new(0),
        })
    }

    /// Nanoseconds since the proxy's start: read once per turn of the event loop, or once per few uses in a long one.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        let uses = self.uses.get();
        if uses == 0 {
            self.cached_ns.set(self.start.elapsed().as_nanos() as u64);
            self.uses.set(USES);
        } else {
            self.uses.set(uses - 1);
        }
        self.cached_ns.get()
    }

    /// The event loop slept: the cached time is old.
    #[inline]
    pub fn expire(&self) {
        self.uses.set(0);
    }

    /// Milliseconds since start, as of the last tick.
    #[inline]
    pub fn coarse_ms(&self) -> u64 {
        self.coarse_ms.get()
    }

    /// Unix milliseconds, as of the last tick.
    #[inline]
    pub fn unix_ms(&self) -> u64 {
        self.unix_at_start_ms + self.coarse_ms.get()
    }

    /// Counts changes of what connections were decided on: a task compares it with what it saw last.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    fn take(&self) -> u32 {
        if let Some(i) = self.free.borrow_mut().pop() {
            return i;
        }
        let mut s = self.slots.borrow_mut();
        s.push(Slot { at_ms: NEVER, fired: false, waker: None });
        (s.len() - 1) as u32
    }

    /// Wakes every task that holds a slot; `generation` grows.
    pub fn changed(&self) {
        self.generation.set(self.generation.get() + 1);
        for s in self.slots.borrow().iter() {
            if let Some(w) = &s.waker {
                w.wake_by_ref();
            }
        }
    }

    /// One tick: wakes the tasks whose deadline passed.
    pub fn tick(&self) {
        self.expire();
        let now = self.start.elapsed().as_millis() as u64;
        self.coarse_ms.set(now);
        for s in self.slots.borrow_mut().iter_mut() {
            if s.at_ms <= now {
                s.at_ms = NEVER;
                s.fired = true;
                if let Some(w) = &s.waker {
                    w.wake_by_ref();
                }
            }
        }
    }
}

/// A task's slot; freed on drop.
pub struct Deadline {
    clock: Rc<Clock>,
    slot: u32,
}

impl Deadline {
    /// Takes a slot for the task that is running now.
    pub async fn of_task(clock: &Rc<Clock>) -> Deadline {
        let d = Deadline { clock: clock.clone(), slot: clock.take() };
        std::future::poll_fn(|cx| {
            if let Some(s) = d.clock.slots.borrow_mut().get_mut(d.slot as usize) {
                s.waker = Some(cx.waker().clone());
            }
            std::task::Poll::Ready(())
        })
        .await;
        d
    }

    /// Fires `ms` from now (0: never); a slot has one deadline, the last one set.
    #[inline]
    pub fn arm(&self, ms: u64) {
        self.arm_at(if ms == 0 { NEVER } else { self.clock.coarse_ms.get() + ms });
    }

    /// Fires at `at_ms` of the coarse clock.
    #[inline]
    pub fn arm_at(&self, at_ms: u64) {
        if let Some(s) = self.clock.slots.borrow_mut().get_mut(self.slot as usize) {
            s.at_ms = at_ms;
            s.fired = false;
        }
    }

    #[inline]
    pub fn disarm(&self) {
        self.arm_at(NEVER);
    }

    #[inline]
    pub fn fired(&self) -> bool {
        self.clock.slots.borrow().get(self.slot as usize).is_some_and(|s| s.fired)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(s) = self.clock.slots.borrow_mut().get_mut(self.slot as usize) {
            *s = Slot { at_ms: NEVER, fired: false, waker: None };
        }
        self.clock.free.borrow_mut().push(self.slot);
    }
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

/// Unix time in seconds.
pub fn unix_seconds() -> f64 {
    unix_ms() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_clock<F: AsyncFnOnce(Rc<Clock>)>(f: F) {
        let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
        rt.block_on(f(Clock::new(Instant::now(), 0)));
    }

    #[test]
    fn a_deadline_fires_once_it_passed_and_not_before() {
        with_clock(async |clock| {
            let d = Deadline::of_task(&clock).await;
            d.arm(60_000);
            clock.tick();
            assert!(!d.fired());
            d.arm_at(0);
            clock.tick();
            assert!(d.fired());
            d.arm(5);
            assert!(!d.fired());
        });
    }

    #[test]
    fn slots_are_used_again() {
        with_clock(async |clock| {
            for _ in 0..10 {
                let a = Deadline::of_task(&clock).await;
                let b = Deadline::of_task(&clock).await;
                assert_ne!(a.slot, b.slot);
            }
            assert_eq!(clock.slots.borrow().len(), 2);
        });
    }

    #[test]
    fn the_cached_time_is_renewed_after_a_few_uses() {
        let c = Clock::new(Instant::now(), 0);
        let first = c.now_ns();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(c.now_ns(), first);
        c.expire();
        assert!(c.now_ns() > first);
    }
}
