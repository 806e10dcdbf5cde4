//! Compiling resources into tables. Deterministic: services and endpoints are numbered in the order of their names.

mod inbound;
mod routes;
mod secrets;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::ServerName;

use super::{Endpoint, EndpointId, Listener, MeshAddress, Rejection, Routes, Service, ServiceId, Subset, Tables};
use crate::config::{self, Resource};
use crate::spiffe::Spiffe;

pub use secrets::public_key_digest;

/// Where in the resources a value stands; adds the place to an error.
fn at<'a>(resource: &'a str, path: &'a str) -> impl Fn(Rejection) -> Rejection + 'a {
    move |e| {
        let dot = if path.is_empty() || e.path.is_empty() || e.path.starts_with('[') { "" } else { "." };
        Rejection::new(resource, format!("{path}{dot}{}", e.path), e.reason)
    }
}

pub fn build(resources: &[&Resource]) -> Result<Tables, Rejection> {
    let mut tables = Tables::default();
    for resource in resources {
        name_services(&mut tables, resource);
    }
    let mut ordered: Vec<&&Resource> = resources.iter().collect();
    ordered.sort_by_key(|r| r.id());
    // Endpoints first: the legs of routes point at subsets, which are made from endpoints.
    for resource in &ordered {
        match resource {
            Resource::Service(r) => service(&mut tables, r),
            Resource::Endpoint(r) => endpoint(&mut tables, r)?,
            _ => {}
        }
    }
    for resource in &ordered {
        match resource {
            Resource::Listener(r) => listener(&mut tables, r)?,
            Resource::Routes(r) => routes::routes(&mut tables, r)?,
            Resource::Inbound(r) => inbound::inbound(&mut tables, r)?,
            Resource::Identity(r) => secrets::identity(&mut tables, r)?,
            Resource::Trust(r) => secrets::trust(&mut tables, r)?,
            Resource::Settings(r) => settings(&mut tables, r)?,
            Resource::Service(_) | Resource::Endpoint(_) => {}
        }
    }
    routes::defaults(&mut tables);
    Ok(tables)
}

/// Gives every service that any resource names its number.
fn name_services(tables: &mut Tables, resource: &Resource) {
    match resource {
        Resource::Listener(r) => {
            known(tables, &r.service, false);
            known(tables, caller_of(&r.instance), false);
        }
        Resource::Service(r) => {
            known(tables, &r.name, true);
            for caller in r.callers.keys() {
                known(tables, caller, false);
            }
        }
        Resource::Endpoint(r) => known(tables, &r.service, true),
        Resource::Routes(r) => {
            known(tables, &r.name, true);
            let sources = r.rules.iter().flat_map(|rule| &rule.sources).chain(r.faults.iter().flat_map(|f| &f.sources));
            let legs = r.rules.iter().flat_map(|rule| &rule.legs).map(|leg| &leg.service);
            for name in sources.chain(legs) {
                known(tables, name, false);
            }
        }
        Resource::Inbound(r) => known(tables, &r.service, true),
        Resource::Identity(_) | Resource::Trust(_) | Resource::Settings(_) => {}
    }
}

/// The service of an instance `<service>/<node>/<id>`.
fn caller_of(instance: &str) -> &str {
    instance.split('/').next().unwrap_or_default()
}

fn known(tables: &mut Tables, name: &str, known: bool) {
    if let Some(id) = tables.service_id(name) {
        tables.services[id.index()].known |= known;
        return;
    }
    let id = ServiceId(tables.services.len() as u32);
    tables.service_by_name.insert(name.into(), id);
    tables.services.push(Service {
        name: name.into(),
        known,
        meshed: false,
        protocol: config::Protocol::default(),
        upstream: config::Upstream::default(),
        callers: Vec::new(),
        endpoints: Vec::new(),
        subsets: Vec::new(),
        routes: Routes::default(),
    });
}

/// A service that was named by `name_services`.
fn named(tables: &Tables, name: &str) -> Result<ServiceId, Rejection> {
    tables.service_id(name).ok_or_else(|| Rejection::new("", "service", format!("service {name:?} is not named")))
}

fn service(tables: &mut Tables, r: &config::Service) {
    let callers = r.callers.iter().filter_map(|(name, u)| tables.service_id(name).map(|id| (id, u.clone()))).collect();
    if let Some(id) = tables.service_id(&r.name) {
        let service = &mut tables.services[id.index()];
        service.protocol = r.protocol;
        service.upstream = r.upstream.clone();
        service.callers = callers;
    }
}

fn address(text: &str, field: &str) -> Result<SocketAddr, Rejection> {
    text.parse().map_err(|_| Rejection::new("", field, format!("{text:?} is not ip:port")))
}

fn endpoint(tables: &mut Tables, r: &config::Endpoint) -> Result<(), Rejection> {
    let resource = format!("endpoint/{}", r.name);
    let here = at(&resource, "");
    if r.name != format!("{}/{}/{}", r.service, r.node, r.id) {
        return Err(Rejection::new(&resource, "name", "is not <service>/<node>/<id>"));
    }
    let service = named(tables, &r.service).map_err(&here)?;
    let id = EndpointId(tables.endpoints.len() as u32);
    let mesh = mesh_address(r).map_err(&here)?;
    let endpoint = Endpoint {
        name: r.name.as_str().into(),
        id: r.id.as_str().into(),
        service,
        node: r.node.as_str().into(),
        address: address(&r.address, "address").map_err(&here)?,
        mesh,
        weight: r.weight,
        state: r.state,
    };
    let entry = &mut tables.services[service.index()];
    entry.meshed |= endpoint.mesh.is_some();
    entry.endpoints.push(id);
    for name in &r.subsets {
        let subset = subset(entry, name);
        let endpoints = &mut entry.subsets[subset as usize].endpoints;
        if endpoints.last() != Some(&id) {
            endpoints.push(id);
        }
    }
    tables.endpoint_by_name.insert(endpoint.name.clone(), id);
    tables.endpoints.push(endpoint);
    Ok(())
}

/// The index of a subset; an empty one is made for a name that no endpoint carries.
fn subset(service: &mut Service, name: &str) -> u32 {
    let found = service.subsets.iter().position(|s| *s.name == *name);
    found.unwrap_or_else(|| {
        service.subsets.push(Subset { name: name.into(), endpoints: Vec::new() });
        service.subsets.len() - 1
    }) as u32
}

/// Who must answer at a meshed endpoint. The identity must be of the endpoint's own instance: an endpoint document
/// cannot make the proxy accept somebody else in its place.
fn mesh_address(r: &config::Endpoint) -> Result<Option<MeshAddress>, Rejection> {
    let Some(inbound) = &r.inbound else { return Ok(None) };
    let spiffe = Spiffe::parse(&r.spiffe).map_err(|e| Rejection::new("", "spiffe", e.0))?;
    if !spiffe.is_instance(&r.name) {
        return Err(Rejection::new("", "spiffe", "is the identity of another instance"));
    }
    let sni = ServerName::try_from(r.sni.as_str()).map_err(|_| Rejection::new("", "sni", "not a DNS name"))?;
    Ok(Some(MeshAddress { inbound: address(inbound, "inbound")?, server_name: sni.to_owned(), spiffe }))
}

fn listener(tables: &mut Tables, r: &config::Listener) -> Result<(), Rejection> {
    let resource = format!("listener/{}", r.name);
    let here = at(&resource, "");
    let ip: IpAddr = r.address.parse().map_err(|_| Rejection::new(&resource, "address", "not an IP address"))?;
    let address = SocketAddr::new(ip, r.port);
    if let Some(other) = tables.listeners.iter().find(|l| l.address == address && r.port != 0) {
        let reason = format!("{address} is taken by listener/{}", other.name);
        return Err(Rejection::new(&resource, "port", reason));
    }
    tables.listeners.push(Listener {
        name: r.name.as_str().into(),
        address,
        instance: r.instance.as_str().into(),
        caller: named(tables, caller_of(&r.instance)).map_err(&here)?,
        service: named(tables, &r.service).map_err(&here)?,
    });
    Ok(())
}

fn settings(tables: &mut Tables, r: &config::Settings) -> Result<(), Rejection> {
    only("settings", &r.name)?;
    if r.inbound_address.parse::<IpAddr>().is_err() {
        return Err(Rejection::new("settings/settings", "inbound_address", "not an IP address"));
    }
    tables.settings = Some(r.clone());
    Ok(())
}

/// Kinds of which there is one.
fn only(kind: &str, name: &str) -> Result<(), Rejection> {
    if name == kind {
        return Ok(());
    }
    Err(Rejection::new(format!("{kind}/{name}"), "name", format!("the one name is {kind:?}")))
}

/// Keeps the first of two values under one key, or says who has it.
fn unique<V: Copy>(map: &mut HashMap<Box<str>, V>, key: &str, value: V) -> Result<(), V> {
    match map.get(key) {
        Some(other) => Err(*other),
        None => {
            map.insert(key.into(), value);
            Ok(())
        }
    }
}
