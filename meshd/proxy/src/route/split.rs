//! Weighted choice between the legs of a rule.

use crate::tables::Leg;

/// The leg that a random number falls on; `random` is asked only when there is a choice.
pub(super) fn pick(legs: &[Leg], random: impl FnOnce() -> u64) -> Option<(usize, &Leg)> {
    if let [only] = legs {
        return Some((0, only));
    }
    let total: u64 = legs.iter().map(|l| u64::from(l.weight)).sum();
    let mut point = scale(random(), total);
    for (i, leg) in legs.iter().enumerate() {
        match point.checked_sub(u64::from(leg.weight)) {
            None => return Some((i, leg)),
            Some(rest) => point = rest,
        }
    }
    None
}

/// A random number brought to `0..below` without the bias of a remainder (Lemire's multiplication).
pub(crate) fn scale(random: u64, below: u64) -> u64 {
    ((u128::from(random) * u128::from(below)) >> 64) as u64
}
