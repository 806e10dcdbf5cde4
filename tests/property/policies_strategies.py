"""Documents that might be written: mostly good, sometimes odd, always about a few services so that they meet."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from registry import model

SERVICES = ("web", "api", "api-next", "db")
SUBSETS = ("v1", "v2", "v9")
Said = tuple[str, str, str]  # kind, name, text

service = st.sampled_from(SERVICES)
subset = st.sampled_from(SUBSETS)
pattern = st.sampled_from((*SERVICES, "api*", "*"))


def fields(required: Mapping[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(dict(required), optional=optional)


duration = st.sampled_from(("1s", "250ms", "1.5s", "0s", "-1s"))
header = st.sampled_from(
    ({"Name": "x-a", "Present": True}, {"Name": "X-B", "Exact": "1", "Invert": True}, {"Name": "x-c", "Regex": "a.*"})
)
http = fields(
    {}, PathPrefix=st.sampled_from(("/", "/a")), Header=st.lists(header, max_size=2), Methods=st.just(["GET"])
)
edits = fields({}, Set=st.just({"x-s": "1"}), Remove=st.just(["x-r"]))
destination = fields(
    {},
    Service=service,
    ServiceSubset=subset,
    RequestTimeout=duration,
    NumRetries=st.integers(0, 5),
    RetryOn=st.lists(st.sampled_from(("5xx", "reset", "connect-failure")), unique=True),
    RequestHeaders=edits,
)
route = fields({}, Match=fields({}, HTTP=http, Sources=st.lists(service, max_size=2)), Destination=destination)


@st.composite
def splits(draw: st.DrawFn) -> dict[str, Any]:
    sides = draw(st.lists(st.tuples(service, st.none() | subset), min_size=1, max_size=4, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=len(sides) - 1, max_size=len(sides) - 1)))
    weights = [high - low for low, high in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    return {
        "Splits": [
            {"Weight": weight / 100, "Service": name, **({"ServiceSubset": part} if part else {})}
            for weight, (name, part) in zip(weights, sides, strict=True)
        ]
    }


resolver = fields(
    {},
    Subsets=st.dictionaries(
        subset,
        fields(
            {}, Filter=st.sampled_from(('Service.Meta.version == "1"', "v2 in Service.Tags")), OnlyPassing=st.booleans()
        ),
    ),
    DefaultSubset=st.just("v1"),
    ConnectTimeout=st.just("2s"),
    RequestTimeout=duration,
)
action = st.sampled_from(("allow", "deny"))
permission = fields({"Action": action, "HTTP": st.just({"PathPrefix": "/a"})})
source = st.one_of(
    fields({"Name": pattern, "Action": action}),
    fields({"Name": service, "Permissions": st.lists(permission, min_size=1, max_size=2)}),
)
intentions = fields({"Sources": st.lists(source, max_size=3, unique_by=lambda one: str(one["Name"]))})
defaults = fields(
    {},
    Protocol=st.sampled_from(("tcp", "http", "grpc")),
    MaxInboundConnections=st.integers(0, 9),
    UpstreamConfig=fields({}, Defaults=fields({}, ConnectTimeoutMs=st.integers(1, 9), AllowPlaintext=st.booleans())),
)
fault = fields(
    {"Service": service, "Until": st.just("2026-12-01T18:00:00Z")},
    Delay=st.just({"Fixed": "1s"}),
    Abort=st.just({"HTTPStatus": 503, "Percent": 0.5}),
)
mesh = fields({}, DefaultIntention=action, ExplainDenials=st.booleans(), RetryBudget=st.just({"Percent": 5}))

BODIES: Mapping[str, st.SearchStrategy[Any]] = {
    "service-router": st.fixed_dictionaries({"Routes": st.lists(route, max_size=3)}),
    "service-splitter": splits(),
    "service-resolver": resolver,
    "service-intentions": intentions,
    "service-defaults": defaults,
    "fault": fault,
    "mesh": mesh,
}


@st.composite
def written(draw: st.DrawFn) -> Said:
    """One document; now and then refused (grpc, a DefaultSubset that is not there, an experiment that does nothing)."""
    kind = draw(st.sampled_from(sorted(BODIES)))
    name = "mesh" if kind == "mesh" else draw(pattern)
    return kind, name, json.dumps(draw(BODIES[kind]))


#: By key, as a store holds them.
several = st.lists(written(), max_size=8, unique_by=lambda said: said[:2])

#: Never a document, whatever its kind.
refused = st.sampled_from(
    ("", "[", "Protcol: http", "Kind: nothing", "- a", "a: &b 1\nc: *b", "{", "Splits: 3", "Routes: x")
)


@st.composite
def instances(draw: st.DrawFn) -> model.Instance:
    name, node = draw(service), draw(st.sampled_from(("a", "b")))
    ports = st.integers(9100, 9103)
    upstreams = draw(st.lists(st.builds(_upstream, service, ports), max_size=2))
    meshed = draw(st.booleans())
    return model.Instance(
        service=name,
        node=node,
        id=draw(st.sampled_from(("one", "two"))),
        address=draw(st.sampled_from(("10.0.0.1", "::1", "nowhere"))),
        port=8080,
        tags=draw(st.sampled_from(((), ("v2",)))),
        meta=draw(st.sampled_from(({}, {"version": "1"}))),
        mesh=model.Mesh(protocol=draw(st.sampled_from((None, "tcp", "http"))), upstreams=tuple(upstreams)),
        inbound=model.Address(address="10.0.0.1", port=15443) if meshed else None,
    )


def _upstream(name: str, port: int) -> model.Upstream:
    return model.Upstream(service=name, local_bind_port=port)


states: st.SearchStrategy[model.EndpointState] = st.sampled_from(
    ("passing", "warning", "critical", "suspect", "draining")
)
endpoint = st.builds(lambda said, state: model.Endpoint(instance=said, state=state), instances(), states)
endpoints = st.lists(
    endpoint,
    max_size=6,
    unique_by=lambda one: one.instance.key,
)
