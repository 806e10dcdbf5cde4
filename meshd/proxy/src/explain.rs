//! `meshd-proxy explain`: the proxy's own decisions on a request that is not sent.

#[cfg(test)]
mod tests;

use crate::authorize::{self, Caller, Connect};
use crate::config::frames::{Decision, ExplainInput, ExplainRequest, Explanation};
use crate::config::{Protocol, Resource, State};
use crate::fault;
use crate::http1::host;
use crate::http1::path::{Normal, normalize};
use crate::route::matching::{HeaderLines, RequestView};
use crate::route::{find_rule, find_tcp_rule};
use crate::tables::{Leg, Rejection, Rule, Service, ServiceId, Tables};

/// Walks a request through the stages. `now_unix_ms` decides which faults still run.
pub fn explain(input: &ExplainInput, now_unix_ms: u64) -> Result<Explanation, Rejection> {
    let parsed = input.resources.iter().map(|raw| Resource::parse(raw.get())).collect::<Result<Vec<_>, _>>()?;
    let tables = Tables::build(&parsed.iter().collect::<Vec<_>>())?;
    let request = &input.request;
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let mut normal = Vec::new();
    let path = match normalize(path.as_bytes(), &mut normal) {
        Ok(Normal::Same) => path.as_bytes(),
        Ok(Normal::Changed) => &normal,
        Err(refused) => {
            return Err(Rejection::new("request", "path", refused.reason));
        }
    };
    let given = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let asked = given.map_or(request.destination.as_str(), |(_, value)| value);
    host::check(asked.as_bytes()).map_err(|e| Rejection::new("request", "headers", e.reason))?;
    let mut host = Vec::new();
    host::canonical(asked.as_bytes(), &mut host);
    let view = RequestView {
        method: request.method.as_bytes(),
        path,
        query: query.as_bytes(),
        host: &host,
        headers: HeaderLines::Pairs(&request.headers),
    };
    Ok(Walk { tables: &tables, request, view, decisions: Vec::new() }.run(now_unix_ms))
}

struct Walk<'a> {
    tables: &'a Tables,
    request: &'a ExplainRequest,
    view: RequestView<'a>,
    decisions: Vec<Decision>,
}

/// What the legs of the rule could end in, from best to worst for the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allow,
    Deny,
    Unavailable,
    Fault,
}

impl Walk<'_> {
    fn say(&mut self, stage: &str, verdict: &str, origin: &str, detail: String) {
        let (stage, verdict, origin) = (stage.into(), verdict.into(), origin.into());
        self.decisions.push(Decision { stage, verdict, origin, detail });
    }

    fn end(self, verdict: &str) -> Explanation {
        Explanation { verdict: verdict.into(), decisions: self.decisions }
    }

    fn run(mut self, now_unix_ms: u64) -> Explanation {
        let caller = self.tables.service_id(&self.request.source);
        let known = self.tables.service_id(&self.request.destination).map(|id| self.tables.service(id));
        let Some(service) = known.filter(|s| s.known) else {
            let detail = format!("unknown service {:?} (503 NR)", self.request.destination);
            self.say("route", "no_route", "", detail);
            return self.end("no_route");
        };
        let found = match service.protocol {
            Protocol::Http => find_rule(&service.routes, caller, &self.view),
            Protocol::Tcp => find_tcp_rule(&service.routes, caller),
        };
        let Some((index, rule)) = found else {
            self.say("route", "no_route", "", "no rule matches (404 NR)".into());
            return self.end("no_route");
        };
        let timeout = if rule.timeout_ms == 0 { "none".into() } else { format!("{} ms", rule.timeout_ms) };
        let detail =
            format!("rule {index}, timeout {timeout}, {} retries ({})", rule.retry.attempts, rule.retry.origin);
        self.say("route", "matched", &rule.origin, detail);
        let outcomes = self.legs(rule, caller, now_unix_ms);
        let verdict = verdict(&outcomes);
        self.end(verdict)
    }

    fn legs(&mut self, rule: &Rule, caller: Option<ServiceId>, now_unix_ms: u64) -> Vec<Outcome> {
        let total: u64 = rule.legs.iter().map(|l| u64::from(l.weight)).sum();
        let mut outcomes = Vec::new();
        for leg in rule.legs.iter().filter(|leg| leg.weight > 0) {
            let share = u64::from(leg.weight) as f64 * 100.0 / total as f64;
            let detail = format!("{share}% to {}", name(self.tables, leg));
            if let Some(why) = &leg.broken {
                self.say("split", "broken", &leg.origin, format!("{detail}: {why} (503 NR)"));
                outcomes.push(Outcome::Unavailable);
                continue;
            }
            self.say("split", "leg", &leg.origin, detail);
            let service = self.tables.service(leg.service);
            let aborted = self.faults(service, caller, now_unix_ms);
            let available = self.endpoints(leg, service, caller);
            let allowed = self.authorize(leg, service);
            outcomes.push(match (aborted, available, allowed) {
                (true, ..) => Outcome::Fault,
                (_, false, _) => Outcome::Unavailable,
                (.., false) => Outcome::Deny,
                (.., true) => Outcome::Allow,
            });
        }
        outcomes
    }

    /// True: every request is aborted.
    fn faults(&mut self, service: &Service, caller: Option<ServiceId>, now_unix_ms: u64) -> bool {
        let mut always = false;
        let applying: Vec<_> = fault::applying(&service.routes.faults, caller, self.view, now_unix_ms).collect();
        for fault in applying {
            let percent = |p: u32| f64::from(p) / 100.0;
            if let Some(delay) = &fault.delay {
                let detail = format!("{}-{} ms for {}%", delay.min_ms, delay.max_ms, percent(delay.percent));
                self.say("fault", "delay", &fault.origin, detail);
            }
            if let Some(abort) = &fault.abort {
                let what = abort.status.map_or("reset".into(), |s| format!("status {s}"));
                always |= abort.percent >= 10_000;
                self.say("fault", "abort", &fault.origin, format!("{what} for {}%", percent(abort.percent)));
            }
        }
        always
    }

    fn endpoints(&mut self, leg: &Leg, service: &Service, caller: Option<ServiceId>) -> bool {
        let all = self.tables.leg_endpoints(leg);
        let mut states = [0usize; 5];
        let mut usable = 0;
        let upstream = service.upstream_for(caller);
        for endpoint in all {
            states[endpoint.state as usize] += 1;
            let reachable = endpoint.mesh.is_some() || (upstream.allow_plaintext && !service.meshed);
            usable += usize::from(reachable && endpoint.weight > 0 && endpoint.state.takes_requests());
        }
        let names = [State::Passing, State::Warning, State::Critical, State::Suspect, State::Draining];
        let counted: Vec<String> = names
            .into_iter()
            .zip(states)
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| format!("{count} {}", state.name()))
            .collect();
        let listed = if counted.is_empty() { "none known".into() } else { counted.join(", ") };
        let verdict = if usable > 0 { "available" } else { "unavailable" };
        self.say("balance", verdict, &upstream.origin, format!("{usable} usable ({listed})"));
        usable > 0
    }

    /// Every distinct answer of the inbounds known here; allowed only if all allow. Unknown ones are said.
    fn authorize(&mut self, leg: &Leg, service: &Service) -> bool {
        let caller = Caller::local(&self.request.source);
        let mut seen: Vec<(bool, String)> = Vec::new();
        for inbound in self.tables.inbounds.iter().filter(|i| i.service == leg.service) {
            let verdict = match authorize::at_connect(&inbound.permissions, caller, inbound.protocol) {
                Connect::Decided(verdict) => verdict,
                Connect::PerRequest => authorize::request(&inbound.permissions, caller, &self.view),
            };
            let answer = (verdict.allowed, verdict.origin.to_owned());
            if !seen.contains(&answer) {
                let word = if verdict.allowed { "allow" } else { "deny" };
                self.say("authorize", word, verdict.origin, format!("as {} decides", inbound.name));
                seen.push(answer);
            }
        }
        if seen.is_empty() {
            let detail = format!("no permissions of {:?} are known here: its own host decides", service.name);
            self.say("authorize", "unknown", "", detail);
        }
        seen.iter().all(|(allowed, _)| *allowed)
    }
}

fn name(tables: &Tables, leg: &Leg) -> String {
    let service = tables.service(leg.service);
    match leg.subset {
        None => service.name.to_string(),
        Some(i) => format!("{} subset {}", service.name, service.subsets[i as usize]),
    }
}

/// Any leg that is denied makes the whole a denial: an operator who asks wants to know.
fn verdict(outcomes: &[Outcome]) -> &'static str {
    let any = |o: Outcome| outcomes.contains(&o);
    if any(Outcome::Deny) {
        "deny"
    } else if any(Outcome::Allow) {
        "allow"
    } else if any(Outcome::Fault) {
        "fault"
    } else {
        "unavailable"
    }
}
