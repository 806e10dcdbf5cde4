"""`inbound/<instance>`: how a local instance is reached, by whom, and for what."""

from typing import Literal

from policies import address
from policies.compiled import Inbound, Permission, Permissions, Source
from policies.context import Context
from policies.matches import compiled_match
from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_intentions import IntentionSource, ServiceIntentions
from policies.select import by_precedence
from policies.view import Protocol
from registry.ca import names
from registry.model import Instance

DEFAULT = Inbound(name="", service="", app="", sni="")


def inbounds(context: Context, service: str) -> tuple[Inbound, ...]:
    """Of the service's instances on this host."""
    local = {instance.key: instance for instance in context.local_of(service)}
    found = [_inbound(context, local[key]) for key in sorted(local)]
    return tuple(inbound for inbound in found if inbound is not None)


def _inbound(context: Context, instance: Instance) -> Inbound | None:
    app = address.joined(instance.address, instance.port)
    try:
        spiffe = names.service_id(context.view.trust_domain, instance.service, instance.node, instance.id)
    except names.BadName as bad:
        context.note_instance(instance, str(bad))
        return None
    if app is None:
        context.note_instance(instance, "is not reachable: its Address and Port are not valid")
        return None
    said = context.index.find(ServiceDefaults, instance.service)
    protocol = context.own_protocol(instance)
    connect, request = (said.local_connect_timeout_ms, said.local_request_timeout_ms) if said else (None, None)
    return Inbound(
        name=str(instance.key),
        service=instance.service,
        app=app,
        sni=names.sni(spiffe),
        protocol=protocol,
        permissions=permissions(context, instance.service, protocol),
        max_connections=said.max_inbound_connections if said else DEFAULT.max_connections,
        connect_timeout_ms=connect or DEFAULT.connect_timeout_ms,
        request_timeout_ms=request or DEFAULT.request_timeout_ms,
    )


def permissions(context: Context, service: str, protocol: Protocol) -> Permissions:
    """All intentions on the service by precedence. A document that nobody can read denies what it may have denied."""
    sources: list[Source] = []
    for name, document in context.index.intentions(service):
        if document is None:
            origin = f"{ServiceIntentions.kind}/{name}#unreadable@0"
            sources.append(Source(name="*", origin=origin, action="deny"))
            return Permissions(sources=tuple(sources), fallback="deny", fallback_origin=origin)
        sources += [_source(context, document, i, source, protocol) for i, source in by_precedence(document)]
    fallback, origin = _fallback(context)
    return Permissions(sources=tuple(sources), fallback=fallback, fallback_origin=origin)


def _source(
    context: Context, document: ServiceIntentions, i: int, source: IntentionSource, protocol: Protocol
) -> Source:
    path = f"Sources[{i}]"
    if source.permissions and protocol == "tcp":
        hint = "service-defaults with Protocol: http"
        context.note(document, path, "Permissions are for http, the service speaks tcp: all is denied", hint)
        return Source(name=source.name, origin=document.origin(path), action="deny")
    return Source(
        name=source.name,
        origin=document.origin(path),
        action=source.action,
        permissions=tuple(
            Permission(
                action=permission.action,
                origin=document.origin(f"{path}.Permissions[{j}]"),
                match=compiled_match(permission.http),
            )
            for j, permission in enumerate(source.permissions)
        ),
    )


def _fallback(context: Context) -> tuple[Literal["allow", "deny"], str]:
    mesh = context.index.mesh()
    if mesh is None or mesh.default_intention is None:
        return "deny", Permissions().fallback_origin
    if mesh.default_intention == "allow" and context.view.forbid_default_allow:
        context.note(mesh, "DefaultIntention", "this host's own configuration forbids allow")
        return "deny", "host#DefaultIntention"
    return mesh.default_intention, mesh.origin("DefaultIntention")
