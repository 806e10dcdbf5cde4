//! Passive ejection, as a decider: failures in a row lead to an ejection for base x times, of at most a share.

/// Longest ejection, whatever `times` says (Envoy's `max_ejection_time`).
pub const LONGEST_MS: u64 = 300_000;

/// The caller's rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    pub consecutive_failures: u32,
    pub base_ejection_ms: u64,
    /// Of all endpoints of the service, per ten thousand.
    pub max_ejection_percent: u32,
    /// A failure later than this after the last begins a new row.
    pub interval_ms: u64,
}

/// Failures in a row, as one thread saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    failures: u32,
    last_ms: u64,
}

impl Row {
    /// Counts a failure; true: the row is long enough to eject.
    pub fn failure(&mut self, rule: &Rule, now_ms: u64) -> bool {
        if self.failures > 0 && now_ms.saturating_sub(self.last_ms) > rule.interval_ms {
            self.failures = 0;
        }
        self.failures += 1;
        self.last_ms = now_ms;
        rule.consecutive_failures > 0 && self.failures >= rule.consecutive_failures
    }

    #[inline]
    pub fn success(&mut self) {
        self.failures = 0;
    }

    #[inline]
    pub fn is_clear(&self) -> bool {
        self.failures == 0
    }
}

/// What all threads know of one endpoint's ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ejection {
    pub until_ms: u64,
    times: u32,
}

impl Ejection {
    #[inline]
    pub fn active(&self, now_ms: u64) -> bool {
        self.until_ms > now_ms
    }

    /// Ejects, unless it is ejected already or `ejected` of `total` are out and one more would pass the share.
    /// Returns how long.
    pub fn eject(&mut self, rule: &Rule, ejected: usize, total: usize, now_ms: u64) -> Option<u64> {
        if self.active(now_ms) || (ejected + 1) * 10_000 > total * rule.max_ejection_percent as usize {
            return None;
        }
        // each base time in service takes one off again
        let base = rule.base_ejection_ms.max(1);
        let forgiven = now_ms.saturating_sub(self.until_ms) / base;
        self.times = self.times.saturating_sub(forgiven.min(u64::from(u32::MAX)) as u32) + 1;
        let ms = (base * u64::from(self.times)).min(LONGEST_MS.max(base));
        self.until_ms = now_ms + ms;
        Some(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule =
        Rule { consecutive_failures: 3, base_ejection_ms: 1000, max_ejection_percent: 5000, interval_ms: 10_000 };

    #[test]
    fn a_row_is_broken_by_success_and_by_time() {
        let mut r = Row::default();
        assert!(!r.failure(&RULE, 0));
        assert!(!r.failure(&RULE, 1));
        r.success();
        assert!(!r.failure(&RULE, 2));
        assert!(!r.failure(&RULE, 3));
        assert!(!r.failure(&RULE, 20_000), "the last failure was longer ago than the interval");
        assert!(!r.failure(&RULE, 20_001));
        assert!(r.failure(&RULE, 20_002));
    }

    #[test]
    fn zero_failures_switches_it_off() {
        let rule = Rule { consecutive_failures: 0, ..RULE };
        let mut r = Row::default();
        assert!((0..100).all(|i| !r.failure(&rule, i)));
    }

    #[test]
    fn never_more_than_the_share() {
        // (already ejected, total, share) -> may another go
        for (ejected, total, share, may) in [
            (0, 1, 5000, false),
            (0, 2, 5000, true),
            (1, 2, 5000, false),
            (1, 3, 5000, false),
            (1, 4, 5000, true),
            (0, 1, 10_000, true),
            (0, 9, 0, false),
        ] {
            let rule = Rule { max_ejection_percent: share, ..RULE };
            assert_eq!(
                Ejection::default().eject(&rule, ejected, total, 50).is_some(),
                may,
                "{ejected}/{total} {share}"
            );
        }
    }

    #[test]
    fn each_time_is_longer_and_good_conduct_shortens() {
        let mut e = Ejection::default();
        assert_eq!(e.eject(&RULE, 0, 4, 0), Some(1000));
        assert_eq!(e.eject(&RULE, 1, 4, 500), None, "it is out already");
        assert_eq!(e.eject(&RULE, 0, 4, 1500), Some(2000));
        assert_eq!(e.eject(&RULE, 0, 4, 3600), Some(3000));
        assert_eq!(e.eject(&RULE, 0, 4, 6600 + 2500), Some(2000), "two base times in service");
        assert!(e.active(9101) && !e.active(11_100));
    }
}
