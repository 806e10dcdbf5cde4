"""What would happen to a request: the resources of caller and callee, decided by the proxy's own code.

The callee's permissions live on its host; they are compiled here from the same documents, as that host does it, so an
explanation needs no call to another host.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from meshd.admin import whole
from meshd.agent import Agent
from meshd.dataplane.supervise import ProxyMissing, binary
from policies.compile import compile_host
from policies.compiled import AnyResource, ExplainInput, ExplainRequest, Explanation, Identity, Inbound, Trust
from policies.select import closure
from policies.view import HostView
from registry.errors import Unavailable
from registry.model import Instance, Mesh

WITHIN = 5.0  # seconds


async def collect(agent: Agent, destination: str) -> tuple[AnyResource, ...]:
    """All resources that decide about requests to a service, wherever they are in force; no identities, no trust."""
    sight = await whole.around(agent, frozenset((destination,)))
    return resources(sight.view, sight.instances, destination)


def resources(view: HostView, instances: Iterable[Instance], destination: str) -> tuple[AnyResource, ...]:
    """As `collect`, from a host's view and the instances that requests may end at."""
    wanted = closure(view.documents, frozenset((destination,)))
    here = compile_host(replace(view, wanted=view.wanted | {destination})).resources
    found: dict[str, AnyResource] = {f"{one.__struct_config__.tag}/{one.name}": one for one in here}
    by_node: dict[str, list[Instance]] = {}
    for instance in instances:
        # one without an inbound port of the mesh has nobody who would enforce its intentions
        if instance.service in wanted and instance.node != view.node and instance.inbound is not None:
            by_node.setdefault(instance.node, []).append(_served(instance))
    for node, local in sorted(by_node.items()):
        theirs = replace(view, node=node, local=tuple(sorted(local, key=lambda one: one.key)), wanted=frozenset())
        for one in compile_host(theirs).resources:
            if isinstance(one, Inbound):
                found[f"inbound/{one.name}"] = one
    return tuple(one for _, one in sorted(found.items()) if not isinstance(one, Identity | Trust))


def _served(instance: Instance) -> Instance:
    """Only its inbound side matters here: upstream ports of another host would clash with ours."""
    mesh = Mesh(protocol=instance.mesh.protocol)
    return msgspec.structs.replace(instance, mesh=mesh)


async def explain(agent: Agent, request: ExplainRequest) -> Explanation:
    """Raises Unavailable when the proxy's program cannot be run."""
    try:
        program = binary(agent.host, agent.around.environ)
    except ProxyMissing as error:
        raise Unavailable(str(error)) from error
    question = msgspec.json.encode(ExplainInput(resources=await collect(agent, request.destination), request=request))
    return await _run(program, question)


async def _run(program: str, question: bytes) -> Explanation:
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            program, "explain", stdin=pipe, stdout=pipe, stderr=pipe, env=dict(os.environ)
        )
    except OSError as error:
        raise Unavailable(f"{program}: {error}") from error
    try:
        async with asyncio.timeout(WITHIN):
            answer, complaint = await child.communicate(question)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise Unavailable(f"{program} explain: no answer within {WITHIN:g} s") from None
    try:
        return msgspec.json.decode(answer, type=Explanation)
    except msgspec.DecodeError as error:
        said = complaint.decode("utf-8", "replace").strip()[-500:]
        raise Unavailable(f"{program} explain: {error}; it said: {said or 'nothing'}") from error
