//! Peak-EWMA: a slow answer counts at once, a fast one slowly, and what is not asked is forgotten.
//!
//! As in Finagle's `PeakEwma`: cost = latency x (requests in flight + 1). Decays on reading too, since an endpoint
//! that is avoided gets no new samples.

use std::cell::Cell;

/// Time constant of forgetting.
const TAU_NS: f64 = 5e9;
/// What an endpoint that was never asked is taken to cost.
const START_NS: f64 = 1e6;
/// Below this distance decay is not worth an `exp`.
const NEAR_NS: u64 = 1_000_000;

/// Latency of one endpoint as one thread saw it.
pub struct Ewma {
    value_ns: Cell<f64>,
    at_ns: Cell<u64>,
    inflight: Cell<u32>,
}

impl Default for Ewma {
    fn default() -> Ewma {
        Ewma { value_ns: Cell::new(START_NS), at_ns: Cell::new(0), inflight: Cell::new(0) }
    }
}

impl Ewma {
    #[inline]
    fn decayed(&self, now_ns: u64) -> f64 {
        let dt = now_ns.saturating_sub(self.at_ns.get());
        let v = self.value_ns.get();
        if dt < NEAR_NS { v } else { v * (-(dt as f64) / TAU_NS).exp() }
    }

    /// What one more request is expected to cost.
    #[inline]
    pub fn cost(&self, now_ns: u64) -> f64 {
        self.decayed(now_ns) * f64::from(self.inflight.get() + 1)
    }

    #[inline]
    pub fn begin(&self) {
        self.inflight.set(self.inflight.get() + 1);
    }

    /// Ends one request. `latency_ns` None: it says nothing about the endpoint's speed.
    #[inline]
    pub fn end(&self, latency_ns: Option<u64>, now_ns: u64) {
        self.inflight.set(self.inflight.get().saturating_sub(1));
        let Some(sample) = latency_ns else { return };
        let (sample, old) = (sample as f64, self.value_ns.get());
        let dt = now_ns.saturating_sub(self.at_ns.get()) as f64;
        // a weight of at least 1/64, so that many fast answers within a millisecond count too
        let keep = (1.0 / (1.0 + dt / TAU_NS)).min(63.0 / 64.0);
        self.value_ns.set(if sample > old { sample } else { old * keep + sample * (1.0 - keep) });
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
        let fast = e.cost(200_000_000);
        assert!(fast < 400_000.0, "{fast}");
        e.begin();
        e.end(Some(50_000_000), 200_000_000);
        assert!(e.cost(200_000_000) >= 50_000_000.0);
        assert!(e.cost(40_000_000_000) < 50_000.0);
    }

    #[test]
    fn requests_in_flight_multiply_the_cost() {
        let e = Ewma::default();
        let one = e.cost(0);
        e.begin();
        e.begin();
        assert_eq!(e.cost(0), one * 3.0);
        e.end(None, 0);
        assert_eq!(e.inflight(), 1);
    }
}
