//! Routes, retries and faults.

use super::super::{Fault, Leg, RetryOn, Routes, Rule, ServiceId};
use super::{Draft, Rejection, at};
use crate::config::{self, Match};
use crate::headers::edit::Edits;
use crate::route::matching::Matcher;

/// Longest injected delay: an hour is an outage already.
const MAX_DELAY_MS: u64 = 3_600_000;

/// The routes of a service; one that is known and has no rules has the default one.
pub(super) fn routes(
    d: &mut Draft<'_>,
    id: ServiceId,
    said: Option<&config::Routes>,
    known: bool,
) -> Result<Routes, Rejection> {
    let mut compiled = Routes::default();
    if let Some(r) = said {
        let resource = format!("routes/{}", r.name);
        for (i, rule_config) in r.rules.iter().enumerate() {
            let path = format!("rules[{i}]");
            compiled.rules.push(rule(d, rule_config).map_err(at(&resource, &path))?);
        }
        for (i, fault_config) in r.faults.iter().enumerate() {
            let path = format!("faults[{i}]");
            compiled.faults.push(fault(d, fault_config).map_err(at(&resource, &path))?);
        }
    }
    if known && compiled.rules.is_empty() {
        compiled.rules.push(default_rule(id));
    }
    Ok(compiled)
}

fn default_rule(service: ServiceId) -> Rule {
    Rule {
        origin: "default#route".into(),
        matcher: None,
        sources: Vec::new(),
        legs: vec![Leg {
            service,
            subset: None,
            weight: 10_000,
            broken: None,
            request_headers: None,
            response_headers: None,
            origin: "default#route".into(),
        }],
        prefix_rewrite: None,
        timeout_ms: 15_000,
        per_try_timeout_ms: 0,
        retry: compiled_retry(&config::Retry::default(), DEFAULT_RETRY_ON),
        request_headers: None,
        response_headers: None,
    }
}

const DEFAULT_RETRY_ON: RetryOn = RetryOn {
    connect_failure: true,
    reset: true,
    peer_503: true,
    server_error: false,
    gateway_error: false,
    retriable_4xx: false,
};

fn rule(d: &mut Draft<'_>, r: &config::Rule) -> Result<Rule, Rejection> {
    if r.legs.iter().all(|leg| leg.weight == 0) {
        return Err(Rejection::new("", "legs", "no leg has a weight"));
    }
    let mut legs = Vec::new();
    for (i, leg_config) in r.legs.iter().enumerate() {
        let path = format!("legs[{i}]");
        legs.push(leg(d, leg_config).map_err(at("", &path))?);
    }
    if r.prefix_rewrite.as_ref().is_some_and(|p| !p.starts_with('/')) {
        return Err(Rejection::new("", "prefix_rewrite", "a path begins with /"));
    }
    let on = retry_on(&r.retry.on).map_err(at("", "retry"))?;
    Ok(Rule {
        origin: r.origin.as_str().into(),
        matcher: matcher(r.matches.as_ref())?,
        sources: sources(d, &r.sources),
        legs,
        prefix_rewrite: r.prefix_rewrite.as_deref().map(Into::into),
        timeout_ms: r.timeout_ms,
        per_try_timeout_ms: r.per_try_timeout_ms,
        retry: compiled_retry(&r.retry, on),
        request_headers: edits(r.request_headers.as_ref(), "request_headers")?,
        response_headers: edits(r.response_headers.as_ref(), "response_headers")?,
    })
}

fn leg(d: &mut Draft<'_>, r: &config::Leg) -> Result<Leg, Rejection> {
    let service = d.named(&r.service);
    Ok(Leg {
        service,
        subset: r.subset.as_ref().map(|name| d.subset(service, name)),
        weight: r.weight,
        broken: r.broken.as_deref().map(Into::into),
        request_headers: edits(r.request_headers.as_ref(), "request_headers")?,
        response_headers: edits(r.response_headers.as_ref(), "response_headers")?,
        origin: r.origin.as_str().into(),
    })
}

fn compiled_retry(r: &config::Retry, on: RetryOn) -> super::super::Retry {
    super::super::Retry {
        attempts: r.attempts,
        on,
        status_codes: r.status_codes.clone(),
        budget_percent: r.budget.percent,
        budget_min_per_second: r.budget.min_per_second,
        default: r.default,
        origin: r.origin.as_str().into(),
    }
}

fn retry_on(names: &[String]) -> Result<RetryOn, Rejection> {
    let mut on = RetryOn::default();
    for (i, name) in names.iter().enumerate() {
        match name.as_str() {
            "connect-failure" => on.connect_failure = true,
            "reset" => on.reset = true,
            "peer-503" => on.peer_503 = true,
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "retriable-4xx" => on.retriable_4xx = true,
            _ => return Err(Rejection::new("", format!("on[{i}]"), format!("unknown condition {name:?}"))),
        }
    }
    Ok(on)
}

pub(super) fn matcher(config: Option<&Match>) -> Result<Option<Matcher>, Rejection> {
    config.map(|m| Matcher::compile(m).map_err(at("", "match"))).transpose()
}

fn edits(config: Option<&config::HeaderEdit>, field: &str) -> Result<Option<Edits>, Rejection> {
    config.map(|edit| Edits::compile(edit).map_err(at("", field))).transpose()
}

/// Sorted, for `is_source`.
fn sources(d: &mut Draft<'_>, names: &[String]) -> Vec<ServiceId> {
    let mut ids: Vec<ServiceId> = names.iter().map(|n| d.named(n)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn fault(d: &mut Draft<'_>, r: &config::Fault) -> Result<Fault, Rejection> {
    if let Some(delay) = &r.delay
        && (delay.min_ms > delay.max_ms || delay.max_ms > MAX_DELAY_MS)
    {
        return Err(Rejection::new("", "delay", "needs min_ms <= max_ms <= one hour"));
    }
    if let Some(abort) = &r.abort
        && abort.reset == abort.status.is_some()
    {
        return Err(Rejection::new("", "abort", "exactly one of status and reset is needed"));
    }
    if r.abort.as_ref().and_then(|a| a.status).is_some_and(|s| !(200..=599).contains(&s)) {
        return Err(Rejection::new("", "abort.status", "not between 200 and 599"));
    }
    Ok(Fault {
        origin: r.origin.as_str().into(),
        until_ms: r.until_ms,
        matcher: matcher(r.matches.as_ref())?,
        sources: sources(d, &r.sources),
        header: r.header.as_ref().map(|name| name.to_ascii_lowercase().into()),
        delay: r.delay.clone(),
        abort: r.abort.clone(),
    })
}
