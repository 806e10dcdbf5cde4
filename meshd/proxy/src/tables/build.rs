//! Compiling changes of resources into the next tables. From scratch is a change of nothing into everything.

mod inbound;
mod routes;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::{Change, Endpoint, Listener, MeshAddress, Rejection, Resources, Service, ServiceId, Standing, Tables};
use crate::config::{self, Resource, State};
use crate::spiffe::Spiffe;

pub use secrets::public_key_digest;

/// Where in the resources a value stands; adds the place to an error.
fn at<'a>(resource: &'a str, path: &'a str) -> impl Fn(Rejection) -> Rejection + 'a {
    move |e| {
        let dot = if path.is_empty() || e.path.is_empty() || e.path.starts_with('[') { "" } else { "." };
        Rejection::new(resource, format!("{path}{dot}{}", e.path), e.reason)
    }
}

/// Endpoints that come (by name), change or go.
type Moves = BTreeMap<Box<str>, Option<Arc<Endpoint>>>;

/// The next tables in the making.
struct Draft<'a> {
    next: Tables,
    set: &'a dyn Resources,
    /// Services to put together again.
    touched: BTreeMap<ServiceId, Moves>,
    /// Ids of resources that changed, where what they are compiled to is kept otherwise.
    changed: BTreeSet<String>,
}

pub fn change(base: &Tables, changes: &[Change<'_>], set: &dyn Resources) -> Result<Tables, Rejection> {
    let mut d = Draft { next: base.clone(), set, touched: BTreeMap::new(), changed: BTreeSet::new() };
    let mut kinds = BTreeSet::new();
    for change in changes {
        for resource in change.before.iter().chain(&change.after) {
            kinds.insert(resource.kind());
            d.note(resource);
        }
        if let Some(Resource::Endpoint(r)) = change.before {
            d.moves(&r.service).insert(r.name.as_str().into(), None);
        }
        if let Some(Resource::Endpoint(r)) = change.after {
            let endpoint = d.endpoint(r)?;
            d.moves(&r.service).insert(r.name.as_str().into(), Some(Arc::new(endpoint)));
        }
    }
    for kind in kinds {
        match kind {
            "identity" => secrets::identities(&mut d)?,
            "inbound" => inbound::inbounds(&mut d)?,
            "listener" => d.listeners()?,
            "settings" => d.settings()?,
            "trust" => secrets::trust(&mut d)?,
            _ => {}
        }
    }
    for (id, moves) in std::mem::take(&mut d.touched) {
        d.rebuild(id, moves)?;
    }
    if base.services.is_empty() {
        d.next.named = d.next.services.len();
    }
    Ok(d.next)
}

/// The service of an instance `<service>/<node>/<id>`.
fn caller_of(instance: &str) -> &str {
    instance.split('/').next().unwrap_or_default()
}

fn address(text: &str, field: &str) -> Result<SocketAddr, Rejection> {
    text.parse().map_err(|_| Rejection::new("", field, format!("{text:?} is not ip:port")))
}

impl Draft<'_> {
    /// What else a change of this resource touches.
    fn note(&mut self, resource: &Resource) {
        match resource {
            Resource::Service(r) => _ = self.moves(&r.name),
            Resource::Inbound(r) => _ = self.moves(&r.service),
            Resource::Routes(r) => _ = self.moves(&r.name),
            _ => {}
        }
        if matches!(resource, Resource::Routes(_) | Resource::Inbound(_) | Resource::Identity(_)) {
            self.changed.insert(resource.id());
        }
    }

    fn moves(&mut self, service: &str) -> &mut Moves {
        let id = self.named(service);
        self.touched.entry(id).or_default()
    }

    /// The number of a service; a new one if nobody spoke of it before.
    fn named(&mut self, name: &str) -> ServiceId {
        if let Some(id) = self.next.service_id(name) {
            return id;
        }
        let id = ServiceId(self.next.services.len() as u32);
        Arc::make_mut(&mut self.next.service_by_name).insert(name.into(), id);
        self.next.services.push(Arc::new(Service {
            name: name.into(),
            known: false,
            meshed: false,
            protocol: config::Protocol::default(),
            upstream: config::Upstream::default(),
            callers: Vec::new(),
            endpoints: Vec::new(),
            standings: Vec::new(),
            suspects: 0,
            hosted: false,
            subsets: Vec::new(),
            routes: Arc::default(),
        }));
        id
    }

    /// The index of a subset; an empty one is made for a name that no endpoint carries.
    fn subset(&mut self, service: ServiceId, name: &str) -> u32 {
        let entry = &mut self.next.services[service.index()];
        let found = entry.subsets.iter().position(|s| **s == *name);
        found.unwrap_or_else(|| {
            let entry = Arc::make_mut(entry);
            entry.subsets.push(name.into());
            entry.subsets.len() - 1
        }) as u32
    }

    fn endpoint(&mut self, r: &config::Endpoint) -> Result<Endpoint, Rejection> {
        let resource = format!("endpoint/{}", r.name);
        let here = at(&resource, "");
        if r.name != format!("{}/{}/{}", r.service, r.node, r.id) {
            return Err(Rejection::new(&resource, "name", "is not <service>/<node>/<id>"));
        }
        let service = self.named(&r.service);
        let mut subsets: Vec<u32> = r.subsets.iter().map(|name| self.subset(service, name)).collect();
        subsets.sort_unstable();
        subsets.dedup();
        Ok(Endpoint {
            name: r.name.as_str().into(),
            id: r.id.as_str().into(),
            service,
            node: r.node.as_str().into(),
            mesh: mesh_address(r).map_err(&here)?,
            address: address(&r.address, "address").map_err(&here)?,
            weight: r.weight,
            state: r.state,
            subsets,
        })
    }

    /// Puts a service together from what is said of it now; its endpoints are those of before but for `moves`.
    fn rebuild(&mut self, id: ServiceId, moves: Moves) -> Result<(), Rejection> {
        let old = Arc::clone(&self.next.services[id.index()]);
        let resource = format!("routes/{}", old.name);
        let routes = match self.set.get(&resource) {
            Some(Resource::Routes(r)) => Some(r),
            _ => None,
        };
        let said = match self.set.get(&format!("service/{}", old.name)) {
            Some(Resource::Service(r)) => Some(r),
            _ => None,
        };
        let (endpoints, standings) = merged(&old, moves);
        let hosted = self.next.inbounds.iter().any(|i| i.service == id);
        let known = said.is_some() || routes.is_some() || hosted || !endpoints.is_empty();
        let compiled = if known != old.known || self.changed.contains(&resource) {
            Arc::new(routes::routes(self, id, routes, known)?)
        } else {
            Arc::clone(&old.routes)
        };
        let callers = said.iter().flat_map(|r| &r.callers).map(|(name, u)| (self.named(name), u.clone())).collect();
        self.next.services[id.index()] = Arc::new(Service {
            name: old.name.clone(),
            known,
            meshed: standings.iter().any(|s| s.meshed),
            suspects: standings.iter().filter(|s| s.state == State::Suspect).count(),
            protocol: said.map_or_else(Default::default, |r| r.protocol),
            upstream: said.map_or_else(Default::default, |r| r.upstream.clone()),
            callers,
            endpoints,
            standings,
            hosted,
            // not those of `old`: its own routes may just have named one more
            subsets: self.next.services[id.index()].subsets.clone(),
            routes: compiled,
        });
        Ok(())
    }

    fn listeners(&mut self) -> Result<(), Rejection> {
        let mut all: Vec<Listener> = Vec::new();
        for resource in self.set.kind("listener") {
            let Resource::Listener(r) = resource else { continue };
            let id = resource.id();
            let ip: IpAddr = r.address.parse().map_err(|_| Rejection::new(&id, "address", "not an IP address"))?;
            let address = SocketAddr::new(ip, r.port);
            if let Some(other) = all.iter().find(|l| l.address == address && r.port != 0) {
                let reason = format!("{address} is taken by listener/{}", other.name);
                return Err(Rejection::new(&id, "port", reason));
            }
            all.push(Listener {
                name: r.name.as_str().into(),
                address,
                instance: r.instance.as_str().into(),
                caller: self.named(caller_of(&r.instance)),
                service: self.named(&r.service),
            });
        }
        self.next.listeners = Arc::new(all);
        Ok(())
    }

    fn settings(&mut self) -> Result<(), Rejection> {
        self.next.settings = None;
        for resource in self.set.kind("settings") {
            let Resource::Settings(r) = resource else { continue };
            only("settings", &r.name)?;
            if r.inbound_address.parse::<IpAddr>().is_err() {
                return Err(Rejection::new("settings/settings", "inbound_address", "not an IP address"));
            }
            self.next.settings = Some(Arc::new(r.clone()));
        }
        Ok(())
    }
}

/// The endpoints of `old` after `moves`, with their standings. What stays is not looked at: with ten thousand of them
/// that would cost more than all else.
fn merged(old: &Service, moves: Moves) -> (Vec<Arc<Endpoint>>, Vec<Standing>) {
    let size = old.endpoints.len() + moves.len();
    let (mut all, mut standings, mut from) = (Vec::with_capacity(size), Vec::with_capacity(size), 0);
    for (name, new) in moves {
        let to = from + old.endpoints[from..].partition_point(|e| e.name < name);
        all.extend_from_slice(&old.endpoints[from..to]);
        standings.extend_from_slice(&old.standings[from..to]);
        from = to + usize::from(old.endpoints.get(to).is_some_and(|e| e.name == name));
        standings.extend(new.iter().map(|e| Standing { weight: e.weight, state: e.state, meshed: e.mesh.is_some() }));
        all.extend(new);
    }
    all.extend_from_slice(&old.endpoints[from..]);
    standings.extend_from_slice(&old.standings[from..]);
    (all, standings)
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

/// Kinds of which there is one.
fn only(kind: &str, name: &str) -> Result<(), Rejection> {
    if name == kind {
        return Ok(());
    }
    Err(Rejection::new(format!("{kind}/{name}"), "name", format!("the one name is {kind:?}")))
}
