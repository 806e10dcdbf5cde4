//! Peak-EWMA: a slow answer counts at once, a fast one slowly, and what is not asked is forgotten.
//!
//! As in Finagle's `PeakEwma`: cost = latency x (requests in flight + 1). Decays on reading too, since an endpoint
//! that is avoided gets no new samples.

use std::cell::Cell;

/// Time constant of forgetting.
const TAU_NS: f64 = 2e9;
/// Differences below this are the event loop's noise: such endpoints are told apart by what is in flight.
const FLOOR_NS: f64 = 1e6;
/// No endpoint is made dearer than twice this by failures alone.
const DEAREST_NS: f64 = 1e9;
/// What an endpoint is taken to cost from its first request on until that is answered, or when it failed.
const START_NS: f64 = 1e6;
/// Below this distance decay is not worth an `exp`.
const NEAR_NS: u64 = 1_000_000;

/// Latency of one endpoint as one thread saw it.
pub struct Ewma {
    value_ns: Cell<f64>,
    at_ns: Cell<u64>,
    inflight: Cell<u32>,
    known: Cell<bool>,
}

impl Default for Ewma {
    fn default() -> Ewma {
        Ewma { value_ns: Cell::new(START_NS), at_ns: Cell::new(0), inflight: Cell::new(0), known: Cell::new(false) }
    }
}

impl Ewma {
    #[inline]
    fn decayed(&self, now_ns: u64) -> f64 {
        let dt = now_ns.saturating_sub(self.at_ns.get());
        let v = self.value_ns.get();
        if dt < NEAR_NS { v } else { v * (-(dt as f64) / TAU_NS).exp() }
    }

    /// What one more request is expected to cost. One that was never asked is asked once, to know.
    #[inline]
    pub fn cost(&self, now_ns: u64) -> f64 {
        if !self.known.get() {
            let n = f64::from(self.inflight.get());
            return START_NS * n * (n + 1.0);
        }
        self.decayed(now_ns).max(FLOOR_NS) * f64::from(self.inflight.get() + 1)
    }

    #[inline]
    pub fn begin(&self) {
        self.inflight.set(self.inflight.get() + 1);
    }

    /// Ends one request. `latency_ns` None: it says nothing about the endpoint's speed.
    #[inline]
    pub fn end(&self, latency_ns: Option<u64>, now_ns: u64) {
        self.inflight.set(self.inflight.get().saturating_sub(1));
        let first = !self.known.replace(true);
        let Some(sample) = latency_ns else {
            if first {
                self.at_ns.set(now_ns);
            }
            return;
        };
        if first {
            self.value_ns.set(sample as f64);
        }
        let (sample, old) = (sample as f64, self.value_ns.get());
        let dt = now_ns.saturating_sub(self.at_ns.get()) as f64;
        // a weight of at least 1/64, so that many fast answers within a millisecond count too
        let keep = (1.0 / (1.0 + dt / TAU_NS)).min(63.0 / 64.0);
        self.value_ns.set(if sample > old { sample } else { old * keep + sample * (1.0 - keep) });
        self.at_ns.set(now_ns);
    }

    /// Expected latency, without what is in flight.
    pub fn level(&self, now_ns: u64) -> f64 {
        self.decayed(now_ns).max(FLOOR_NS)
    }

    /// A failure makes the endpoint twice as dear as `other`, the cheapest beside it: failing fast must not look
    /// attractive. Not by more, or it would hardly be asked often enough to be ejected.
    pub fn fail(&self, other: f64, now_ns: u64) {
        self.known.set(true);
        let other = if other.is_finite() { other.clamp(FLOOR_NS, DEAREST_NS) } else { FLOOR_NS };
        self.value_ns.set(self.decayed(now_ns).max(2.0 * other));
        self.at_ns.set(now_ns);
    }

    pub fn inflight(&self) -> u32 {
        self.inflight.get()
    }

    pub fn ms(&self) -> f64 {
        self.value_ns.get() / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_fades_without_traffic() {
        let e = Ewma::default();
        for i in 0..200 {
            e.begin();
            e.end(Some(200_000), i * 1_000_000);
        }
        assert_eq!(e.cost(200_000_000), FLOOR_NS);
        e.begin();
        e.end(Some(50_000_000), 200_000_000);
        assert!(e.cost(200_000_000) >= 50_000_000.0);
        assert!(e.cost(1_200_000_000) > 20_000_000.0);
        assert_eq!(e.cost(20_000_000_000), FLOOR_NS);
    }

    #[test]
    fn requests_in_flight_multiply_the_cost() {
        let e = Ewma::default();
        e.begin();
        e.end(Some(3_000_000), 0);
        e.begin();
        e.begin();
        assert_eq!(e.cost(0), 9_000_000.0);
        e.end(None, 0);
        assert_eq!(e.inflight(), 1);
    }

    #[test]
    fn failures_make_dear_and_are_forgotten() {
        let e = Ewma::default();
        (0..40).for_each(|_| e.fail(0.0, 0));
        assert_eq!(e.cost(0), FLOOR_NS * 2.0);
        (0..40).for_each(|_| e.fail(5e6, 0));
        assert_eq!(e.cost(0), 10e6);
        assert_eq!(e.cost(60_000_000_000), FLOOR_NS);
    }

    #[test]
    fn the_unknown_is_asked_once_before_it_is_judged() {
        let e = Ewma::default();
        assert_eq!(e.cost(9_000_000_000), 0.0);
        e.begin();
        assert!(e.cost(9_000_000_000) >= START_NS);
        e.end(None, 9_000_000_000);
        assert_eq!(e.cost(9_000_000_000), START_NS);
    }
}
