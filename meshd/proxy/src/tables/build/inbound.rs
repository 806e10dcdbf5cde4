//! Local instances and their permissions.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Inbound, Permission, Permissions, Source};
use super::routes::matcher;
use super::{Draft, Rejection, address, at, caller_of};
use crate::config::{self, Resource};

/// All local instances; what did not change is kept.
pub(super) fn inbounds(d: &mut Draft<'_>) -> Result<(), Rejection> {
    let old = Arc::clone(&d.next.inbounds);
    let (mut all, mut by_sni) = (Vec::new(), HashMap::new());
    for resource in d.set.kind("inbound") {
        let Resource::Inbound(r) = resource else { continue };
        let id = resource.id();
        let kept = old.binary_search_by(|i| (*i.name).cmp(&r.name)).ok().filter(|_| !d.changed.contains(&id));
        let inbound = match kept {
            Some(i) => Arc::clone(&old[i]),
            None => Arc::new(inbound(d, &id, r)?),
        };
        if let Some(other) = by_sni.insert(inbound.sni.clone(), r.name.as_str()) {
            return Err(Rejection::new(&id, "sni", format!("also that of inbound/{other}")));
        }
        all.push(inbound);
    }
    d.next.inbounds = Arc::new(all);
    Ok(())
}

fn inbound(d: &mut Draft<'_>, resource: &str, r: &config::Inbound) -> Result<Inbound, Rejection> {
    if caller_of(&r.name) != r.service || r.name.split('/').count() != 3 {
        return Err(Rejection::new(resource, "name", "is not <service>/<node>/<id>"));
    }
    if r.sni.is_empty() {
        return Err(Rejection::new(resource, "sni", "empty"));
    }
    Ok(Inbound {
        name: r.name.as_str().into(),
        service: d.named(&r.service),
        app: address(&r.app, "app").map_err(at(resource, ""))?,
        sni: r.sni.to_ascii_lowercase().into(),
        protocol: r.protocol,
        permissions: permissions(&r.permissions).map_err(at(resource, "permissions"))?,
        max_connections: r.max_connections,
        connect_timeout_ms: r.connect_timeout_ms,
        request_timeout_ms: r.request_timeout_ms,
    })
}

fn permissions(r: &config::Permissions) -> Result<Permissions, Rejection> {
    let mut sources = Vec::new();
    for (i, source_config) in r.sources.iter().enumerate() {
        let path = format!("sources[{i}]");
        sources.push(source(source_config).map_err(at("", &path))?);
    }
    Ok(Permissions { sources, fallback: r.fallback, fallback_origin: r.fallback_origin.as_str().into() })
}

fn source(r: &config::Source) -> Result<Source, Rejection> {
    // Neither would let everything fall through to the fallback, which may allow.
    if r.action.is_some() != r.permissions.is_empty() {
        return Err(Rejection::new("", "", "exactly one of action and permissions is needed"));
    }
    let mut permissions = Vec::new();
    for (i, p) in r.permissions.iter().enumerate() {
        let path = format!("permissions[{i}]");
        let matcher = matcher(p.matches.as_ref()).map_err(at("", &path))?;
        permissions.push(Permission { action: p.action, origin: p.origin.as_str().into(), matcher });
    }
    Ok(Source { name: r.name.as_str().into(), origin: r.origin.as_str().into(), action: r.action, permissions })
}
