//! Power of two choices among those that may be chosen.

use super::Endpoint;
use std::rc::Rc;

/// Endpoints that may be chosen now.
#[derive(Default)]
pub(super) struct Candidates {
    /// Indices into the service's endpoints.
    pub(super) members: Vec<u32>,
    /// Running sums of the weights; empty when they are all equal.
    pub(super) sums: Vec<u64>,
}

impl Candidates {
    pub(super) fn clear(&mut self) {
        self.members.clear();
        self.sums.clear();
    }

    /// Takes one more that may be chosen; `finish` when all are in.
    pub(super) fn push(&mut self, index: u32, weight: u32) {
        self.members.push(index);
        self.sums.push(self.sums.last().copied().unwrap_or(0) + u64::from(weight));
    }

    pub(super) fn finish(&mut self) {
        let first = self.sums.first().copied().unwrap_or(0);
        if self.sums.iter().zip(1..).all(|(sum, n)| *sum == n * first) {
            self.sums.clear();
        }
    }

    #[inline]
    fn at(&self, random: u32) -> usize {
        let scale = |below: u64| (u64::from(random) * below) >> 32;
        match self.sums.last() {
            None => scale(self.members.len() as u64) as usize,
            Some(total) => {
                let point = scale(*total);
                self.sums.partition_point(|s| *s <= point)
            }
        }
    }

    /// Two at random, the cheaper one. `without` is passed over when there is another.
    #[inline]
    pub(super) fn pick<T>(
        &self,
        states: &[Rc<Endpoint<T>>],
        without: Option<u32>,
        random: u64,
        now_ns: u64,
    ) -> Option<u32> {
        if let [only] = self.members[..] {
            return Some(only);
        }
        let n = self.members.len();
        if n == 0 {
            return None;
        }
        let (mut a, mut b) = (self.at(random as u32), self.at((random >> 32) as u32));
        if a == b {
            b = (a + 1) % n;
        }
        let is_out = |i: usize| without == Some(self.members[i]);
        if is_out(a) {
            a = (0..n).find(|i| *i != b && !is_out(*i)).unwrap_or(b);
        } else if is_out(b) {
            b = (0..n).find(|i| *i != a && !is_out(*i)).unwrap_or(a);
        }
        let cost = |i: usize| states.get(self.members[i] as usize).map_or(f64::MAX, |e| e.ewma.cost(now_ns));
        Some(self.members[if cost(a) <= cost(b) { a } else { b }])
    }
}
