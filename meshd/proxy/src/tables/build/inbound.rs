//! Local instances and their permissions.

use super::super::{Inbound, InboundId, Permission, Permissions, Source, Tables};
use super::routes::matcher;
use super::{Rejection, address, at, caller_of, named, unique};
use crate::config;

pub(super) fn inbound(tables: &mut Tables, r: &config::Inbound) -> Result<(), Rejection> {
    let resource = format!("inbound/{}", r.name);
    let here = at(&resource, "");
    if caller_of(&r.name) != r.service || r.name.split('/').count() != 3 {
        return Err(Rejection::new(&resource, "name", "is not <service>/<node>/<id>"));
    }
    let sni = r.sni.to_ascii_lowercase();
    let id = InboundId(tables.inbounds.len() as u32);
    if sni.is_empty() {
        return Err(Rejection::new(&resource, "sni", "empty"));
    }
    unique(&mut tables.inbound_by_sni, &sni, id).map_err(|other| {
        let reason = format!("also that of inbound/{}", tables.inbounds[other.index()].name);
        Rejection::new(&resource, "sni", reason)
    })?;
    let inbound = Inbound {
        name: r.name.as_str().into(),
        service: named(tables, &r.service).map_err(&here)?,
        app: address(&r.app, "app").map_err(&here)?,
        sni: sni.into(),
        protocol: r.protocol,
        permissions: permissions(&r.permissions).map_err(at(&resource, "permissions"))?,
        max_connections: r.max_connections,
        connect_timeout_ms: r.connect_timeout_ms,
        request_timeout_ms: r.request_timeout_ms,
    };
    tables.inbound_by_name.insert(inbound.name.clone(), id);
    tables.inbounds.push(inbound);
    Ok(())
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
