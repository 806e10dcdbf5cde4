"""Documents and endpoints to the proxy's resources."""

from policies.compiled import Settings
from policies.view import Compiled, HostView

__all__ = ["Compiled", "HostView", "compile_host"]


def compile_host(view: HostView) -> Compiled:
    """The host's whole configuration but identities and trust. Pure, deterministic, order independent."""
    settings = Settings(
        name="settings",
        node=view.node,
        inbound_address=view.inbound.address,
        inbound_port=view.inbound.port,
    )
    return Compiled(resources=(settings,))
