//! Which rule decides a request, and which leg of its split serves it.

pub mod matching;
mod split;

pub(crate) use split::scale;
#[cfg(test)]
pub(crate) mod tests;

use crate::http1::Refused;
use crate::http1::path::{Normal, normalize};
use crate::tables::{Leg, Routes, Rule, ServiceId, Tables};
use matching::RequestView;

/// What route says. Borrowed from the tables: a request keeps the tables that decided it.
#[derive(Debug, Clone, Copy)]
pub enum Routed<'t> {
    To(Decision<'t>),
    /// No rule matches: 404 NR.
    NoRule,
    /// Nothing is known of the service: 503 NR.
    UnknownService,
}

/// The rule and the leg that serve a request.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'t> {
    pub rule: &'t Rule,
    /// Index of the rule in the routes of the service asked for.
    pub rule_index: usize,
    pub leg: &'t Leg,
    pub leg_index: usize,
}

/// Decides a request for `service`. `random` is asked only for a real split.
pub fn route<'t>(
    tables: &'t Tables,
    service: ServiceId,
    caller: Option<ServiceId>,
    view: &RequestView<'_>,
    random: impl FnOnce() -> u64,
) -> Routed<'t> {
    let asked = tables.service(service);
    if !asked.known {
        return Routed::UnknownService;
    }
    let Some((rule_index, rule)) = find_rule(&asked.routes, caller, view) else {
        return Routed::NoRule;
    };
    match split::pick(&rule.legs, random) {
        Some((leg_index, leg)) => Routed::To(Decision { rule, rule_index, leg, leg_index }),
        None => Routed::NoRule,
    }
}

/// Decides a TCP connection: the first rule for this caller that has no match.
pub fn route_tcp(
    tables: &Tables,
    service: ServiceId,
    caller: Option<ServiceId>,
    random: impl FnOnce() -> u64,
) -> Routed<'_> {
    let asked = tables.service(service);
    if !asked.known {
        return Routed::UnknownService;
    }
    let Some((rule_index, rule)) = find_tcp_rule(&asked.routes, caller) else {
        return Routed::NoRule;
    };
    match split::pick(&rule.legs, random) {
        Some((leg_index, leg)) => Routed::To(Decision { rule, rule_index, leg, leg_index }),
        None => Routed::NoRule,
    }
}

/// The first rule whose match holds. An error in matching is no match: the next rule decides.
pub fn find_rule<'t>(
    routes: &'t Routes,
    caller: Option<ServiceId>,
    view: &RequestView<'_>,
) -> Option<(usize, &'t Rule)> {
    routes.rules.iter().enumerate().find(|(_, rule)| {
        is_source(&rule.sources, caller) && rule.matcher.as_ref().is_none_or(|m| m.matches(view).unwrap_or(false))
    })
}

/// The first rule for this caller that asks nothing of a request.
pub fn find_tcp_rule(routes: &Routes, caller: Option<ServiceId>) -> Option<(usize, &Rule)> {
    routes.rules.iter().enumerate().find(|(_, r)| r.matcher.is_none() && is_source(&r.sources, caller))
}

/// Whether a list of calling services (empty: all) holds the caller.
pub(crate) fn is_source(sources: &[ServiceId], caller: Option<ServiceId>) -> bool {
    sources.is_empty() || caller.is_some_and(|c| sources.binary_search(&c).is_ok())
}

/// The path to forward when the rule rewrites the matched prefix; the result is in normal form.
///
/// False: the path stays. A rule that matched the whole path exactly has it replaced whole; a rule without a path
/// has the prefix `/`; one with a regular expression is not rewritten. An error is a 400: the two parts join to a path without normal form.
pub fn rewrite(rule: &Rule, path: &[u8], out: &mut Vec<u8>) -> Result<bool, Refused> {
    let Some(prefix) = &rule.prefix_rewrite else { return Ok(false) };
    let replaced = rule.matcher.as_ref().map_or(Some(1), |m| m.rewritten_bytes(path));
    let (Some(replaced), true) = (replaced, path.starts_with(b"/")) else { return Ok(false) };
    // Rare (a rewriting rule), so one buffer more is fair: the new path may need joining (`/` + `/x`).
    let joined = [prefix.as_bytes(), &path[replaced..]].concat();
    if normalize(&joined, out)? == Normal::Same {
        out.clear();
        out.extend_from_slice(&joined);
    }
    Ok(true)
}
