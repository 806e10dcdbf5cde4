"""The caller's side: `listener/<instance>:<service>` and `service/<service>`."""

import msgspec

from policies import address
from policies.compiled import Listener, Outlier, Service, Upstream
from policies.context import Context
from policies.schema.service_defaults import PassiveHealthCheck, ServiceDefaults, UpstreamSettings
from policies.schema.service_resolver import ServiceResolver
from registry import keys
from registry.model import Instance
from registry.model import Upstream as Declared


def listeners(context: Context) -> tuple[Listener, ...]:
    """One loopback port per declared upstream; a port declared twice belongs to the first instance by name."""
    found: dict[str, Listener] = {}
    bound: dict[tuple[str, int], str] = {}
    for instance in sorted(context.local, key=lambda instance: instance.key):
        for declared in instance.mesh.upstreams:
            listener = _listener(context, instance, declared)
            if listener is None:
                continue
            holder = bound.setdefault((listener.address, listener.port), listener.name)
            if listener.name in found:
                context.note_instance(instance, f"upstream {declared.service} is declared twice")
            elif holder != listener.name:
                reason = f"upstream port {listener.address}:{listener.port} is taken by {holder}"
                context.note_instance(instance, reason, "choose another LocalBindPort")
            else:
                found[listener.name] = listener
    return tuple(found[name] for name in sorted(found, key=lambda name: name.split("/")))


def _listener(context: Context, instance: Instance, declared: Declared) -> Listener | None:
    where = declared.local_bind_address or context.view.loopback
    if not keys.valid_name(declared.service) or not 0 < declared.local_bind_port < 65536:
        context.note_instance(instance, "an upstream has no valid Service and LocalBindPort")
        return None
    if not address.loopback(where):
        context.note_instance(instance, f"upstream {declared.service} is not on loopback", "leave LocalBindAddress out")
        return None
    return Listener(
        name=f"{instance.key}:{declared.service}",
        address=where,
        port=declared.local_bind_port,
        instance=str(instance.key),
        service=declared.service,
    )


def service(context: Context, name: str) -> Service:
    """A destination with its treatment by each local caller that has something to say about it."""
    base = _base(context, name)
    callers = {}
    for caller in context.callers:
        upstream = _of_caller(context, caller, name, base)
        if upstream != base:
            callers[caller] = upstream
    return Service(name=name, protocol=context.protocol(name), upstream=base, callers=callers)


def _base(context: Context, name: str) -> Upstream:
    resolver = context.index.find(ServiceResolver, name)
    if resolver is None or resolver.connect_timeout_ms is None:
        return Upstream()
    return Upstream(connect_timeout_ms=resolver.connect_timeout_ms, origin=resolver.origin("ConnectTimeout"))


def _of_caller(context: Context, caller: str, name: str, base: Upstream) -> Upstream:
    """`Overrides` for this destination over `Defaults` over the destination's own, field by field."""
    document = context.index.find(ServiceDefaults, caller)
    if document is None:
        return base
    config, upstream = document.upstream_config, base
    layers = [("UpstreamConfig.Defaults", config.defaults)] if config.defaults else []
    layers += [
        (f"UpstreamConfig.Overrides[{i}]", override)
        for i, override in enumerate(config.overrides)
        if override.name == name
    ]
    for path, settings in layers:
        if settings is not None:
            upstream = _layered(upstream, settings, document.origin(path))
    if upstream.allow_plaintext and context.meshed(name):
        reason = f"{name} has meshed instances: it is never called in plaintext"
        context.note(document, "UpstreamConfig", reason, "take AllowPlaintext out")
        upstream = msgspec.structs.replace(upstream, allow_plaintext=False)
    return upstream


def _layered(upstream: Upstream, said: UpstreamSettings, origin: str) -> Upstream:
    health = said.passive_health_check
    return Upstream(
        connect_timeout_ms=said.connect_timeout_ms or upstream.connect_timeout_ms,
        idle_timeout_ms=upstream.idle_timeout_ms,
        allow_plaintext=upstream.allow_plaintext if said.allow_plaintext is None else said.allow_plaintext,
        outlier=_outlier(health) if health else upstream.outlier,
        origin=origin,
    )


def _outlier(said: PassiveHealthCheck) -> Outlier:
    base, share = Outlier(), said.max_ejection_percent
    return Outlier(
        consecutive_failures=said.max_failures or base.consecutive_failures,
        base_ejection_ms=said.base_ejection_ms or base.base_ejection_ms,
        max_ejection_percent=base.max_ejection_percent if share is None else share,
        interval_ms=said.interval_ms or base.interval_ms,
    )
