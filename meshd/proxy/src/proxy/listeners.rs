//! Which ports are wanted, which are held, and trying again for those that are taken.

use crate::events::Events;
use crate::listener::{self, Purpose};
use crate::runtime::Threads;
use crate::tables::Tables;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

struct Wanted {
    address: SocketAddr,
    service: String,
    bound: bool,
    /// Tries that failed.
    failed: u64,
}

/// All listening addresses of this proxy.
#[derive(Default)]
pub struct Listeners {
    all: BTreeMap<Purpose, Wanted>,
}

fn wanted(t: &Tables) -> BTreeMap<Purpose, (SocketAddr, String)> {
    let mut all = BTreeMap::new();
    for l in t.listeners.iter() {
        all.insert(Purpose::Upstream(l.name.clone()), (l.address, t.service(l.service).name.to_string()));
    }
    if let Some(s) = &t.settings
        && let Ok(ip) = s.inbound_address.parse::<IpAddr>()
        && s.inbound_port != 0
    {
        all.insert(Purpose::Inbound, (SocketAddr::new(ip, s.inbound_port), String::new()));
    }
    all
}

impl Listeners {
    /// Listens where `tables` say, and nowhere else. What did not change is not touched.
    pub fn want(&mut self, tables: &Tables, threads: &Threads, events: &Events) {
        let now = wanted(tables);
        self.all.retain(|purpose, w| {
            let stays = now.get(purpose).is_some_and(|(a, _)| *a == w.address);
            if !stays && w.bound {
                threads.unlisten(purpose);
            }
            stays
        });
        for (purpose, (address, service)) in now {
            let w = self.all.entry(purpose.clone()).or_insert(Wanted { address, service, bound: false, failed: 0 });
            if !w.bound {
                w.open(&purpose, threads, events);
            }
        }
    }

    /// Tries again for ports that were taken: ten times at once (an old listener may just be closing), then each second.
    pub fn retry(&mut self, beats: u64, threads: &Threads, events: &Events) {
        for (purpose, w) in &mut self.all {
            if !w.bound && (w.failed < 10 || beats.is_multiple_of(super::BEATS_PER_SECOND)) {
                w.open(purpose, threads, events);
            }
        }
    }

    /// Nothing is wanted any more.
    pub fn forget(&mut self) {
        self.all.clear();
    }
}

impl Wanted {
    fn open(&mut self, purpose: &Purpose, threads: &Threads, events: &Events) {
        let name = match purpose {
            Purpose::Upstream(n) => n,
            Purpose::Inbound => "inbound",
        };
        let (kind, detail) = match listener::bind(self.address, threads.count()) {
            Ok(sockets) => {
                threads.listen(purpose, sockets);
                self.bound = true;
                ("listener_bound", self.address.to_string())
            }
            Err(e) => {
                self.failed += 1;
                // said when it is no longer a matter of moments, and then once
                if self.failed != 2 {
                    return;
                }
                crate::logging::log(
                    "error",
                    "cannot listen",
                    &[
                        ("address", self.address.to_string().as_str()),
                        ("listener", name),
                        ("error", e.to_string().as_str()),
                    ],
                );
                ("listener_failed", format!("{}: {e}", self.address))
            }
        };
        events.say(kind, |e| {
            e.service.clone_from(&self.service);
            e.endpoint = name.into();
            e.detail = detail;
        });
    }
}
