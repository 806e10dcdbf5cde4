//! What is told to meshd without being asked: totals each second, events as they happen.

use super::Proxy;
use crate::config::frames::{Event, Events as Frame, FromProxy, Named, Stats};
use crate::metrics;

/// Events told in one frame.
const TOGETHER: usize = 128;

impl Proxy {
    /// All threads' totals.
    pub(super) async fn stats(&self, id: u64) -> Stats {
        let mut s = metrics::merge(self.threads.collect().await);
        let suspects = self.registry.suspects(self.start.elapsed().as_millis() as u64);
        for e in s.endpoints.iter_mut().filter(|_| !suspects.is_empty()) {
            e.proof = suspects.get(&*e.name).copied().unwrap_or_default().into();
        }
        s.probes = self.prober.counts();
        s.id = id;
        s.started = self.started;
        s.dropped_events = self.events.dropped() + self.writer.dropped();
        s.retry_budget_exhausted =
            self.registry.exhausted().into_iter().map(|(n, count)| Named { name: n.into(), count }).collect();
        s
    }

    /// Tells an event, and those that wait behind it.
    pub(super) fn tell(&mut self, first: Event) {
        let mut events = vec![first];
        while events.len() < TOGETHER
            && let Ok(e) = self.queue.try_recv()
        {
            events.push(e);
        }
        match &self.meshd {
            Some(m) => m.say(&FromProxy::Events(Frame { events })),
            None => self.events.lost(events.len() as u64),
        }
    }

    /// Once per second.
    pub(super) async fn second(&mut self) {
        let now_ms = self.start.elapsed().as_millis() as u64;
        for (service, endpoint) in self.registry.second(now_ms) {
            self.events.say("restored", |e| {
                e.service = service.into();
                e.endpoint = endpoint.into();
            });
        }
        if self.meshd.as_ref().is_some_and(|m| !m.is_behind()) {
            let stats = self.stats(0).await;
            self.say(FromProxy::Stats(stats));
        }
    }
}
