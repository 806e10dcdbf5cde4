"""Documents and endpoints to the proxy's resources: one file that says what a host is told, and in which parts."""

from policies.compiled import AccessLog, AnyResource, Settings
from policies.context import Context
from policies.endpoints import endpoints
from policies.inbound import inbounds
from policies.routes import routes
from policies.schema.mesh import Mesh
from policies.select import closure
from policies.upstreams import listeners, service
from policies.view import Compiled, HostView

__all__ = ["Compiled", "HostView", "compile_host"]


def compile_host(view: HostView) -> Compiled:
    """The host's whole configuration but identities and trust. Pure and deterministic.

    Compiled are the upstreams of the local instances, `view.wanted`, and every service that their requests may end at.
    Nothing here raises for what documents or registrations hold: what cannot be served is left out or marked, and is
    a Problem.
    """
    context = Context(view)
    ports = listeners(context)
    asked = frozenset(listener.service for listener in ports) | view.wanted
    resources: list[AnyResource] = [*ports, *inbounds(context), _settings(context)]
    for name in sorted(closure(view.documents, asked)):
        resources += [service(context, name), routes(context, name), *endpoints(context, name)]
    resources.sort(key=lambda resource: (kind_of(resource), resource.name))
    return Compiled(resources=tuple(resources), problems=tuple(sorted(context.problems)))


def kind_of(resource: AnyResource) -> str:
    """`listener`, `service`, ... as on the wire; with `/<name>` it is the resource's identity."""
    return str(resource.__struct_config__.tag)


def _settings(context: Context) -> Settings:
    view = context.view
    mesh = context.index.mesh() or Mesh(name="mesh", version=0)
    log = AccessLog(enabled=mesh.access_log.enabled, path=view.access_log_path, sample=mesh.access_log.sample)
    return Settings(
        name="settings",
        node=view.node,
        inbound_address=view.inbound.address,
        inbound_port=view.inbound.port,
        access_log=log,
        explain_denials=mesh.explain_denials,
        trace_sampling=mesh.tracing.sampling,
    )
