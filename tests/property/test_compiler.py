"""After any sequence of changes a Compiler yields what a new one yields; what did not change is the same object."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.compile import Compiler, HostView, compile_host
from policies.parse import parse
from policies.schema.kinds import AnyDocument
from registry import model
from registry.model import InstanceKey
from tests.property import policies_strategies as some

Step = tuple[str, Any]
Name = tuple[str, str]

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("document"), some.written()),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("unreadable"), st.frozensets(st.tuples(st.just("service-intentions"), some.pattern), max_size=2)),
    st.tuples(st.just("endpoint"), some.endpoint),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("meshed"), st.frozensets(some.service, max_size=2)),
    st.tuples(st.just("spoken"), st.dictionaries(some.service, st.sampled_from(("tcp", "http")), max_size=2)),
    st.tuples(st.just("wanted"), st.frozensets(some.service, max_size=3)),
    st.tuples(st.just("node"), st.sampled_from(("a", "b"))),
    st.tuples(st.just("access_log_path"), st.sampled_from(("", "log"))),
)


@dataclass
class Mesh:
    """What a host knows, changed step by step; objects that no step touched stay the same ones."""

    documents: dict[Name, AnyDocument] = field(default_factory=dict)
    endpoints: dict[str, dict[InstanceKey, model.Endpoint]] = field(default_factory=dict)
    folded: dict[str, tuple[model.Endpoint, ...]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=lambda: {"node": "a", "wanted": frozenset({"web"})})
    versions: int = 0

    def step(self, what: str, value: Any) -> None:
        doing: Callable[[Any], None] | None = getattr(self, f"_{what}", None)
        if doing is not None:
            doing(value)
        else:
            self.fields[what] = value

    def view(self) -> HostView:
        local = [one.instance for mine in self.endpoints.values() for one in mine.values()]
        return HostView(
            trust_domain="mesh.local",
            inbound=model.Address(address="127.0.0.1", port=15443),
            local=tuple(one for one in local if one.node == self.fields["node"]),
            endpoints=self.folded,
            documents=self.documents,
            **self.fields,
        )

    def _document(self, said: some.Said) -> None:
        self.versions += 1
        document = parse(said[0], said[1], said[2].encode(), version=self.versions).document
        if document is not None:
            self.documents[said[0], said[1]] = document

    def _remove(self, number: int) -> None:
        for name in list(self.documents)[number : number + 1]:
            del self.documents[name]

    def _endpoint(self, endpoint: model.Endpoint) -> None:
        self.endpoints.setdefault(endpoint.instance.service, {})[endpoint.instance.key] = endpoint
        self._fold(endpoint.instance.service)

    def _leave(self, number: int) -> None:
        known = [key for mine in self.endpoints.values() for key in mine]
        for key in known[number : number + 1]:
            del self.endpoints[key.service][key]
            self._fold(key.service)

    def _fold(self, service: str) -> None:
        mine = self.endpoints[service]
        self.folded = {**self.folded, service: tuple(mine[key] for key in sorted(mine))}


@given(st.lists(st.lists(STEPS, min_size=1, max_size=3), max_size=12))
def test_what_is_remembered_only_saves_work(story: list[list[Step]]) -> None:
    mesh, compiler = Mesh(), Compiler()
    for steps in story:
        for what, value in steps:
            mesh.step(what, value)
        view = mesh.view()
        assert compiler.compile(view) == compile_host(view)
        again = compiler.compile(replace(view, documents=dict(view.documents)))
        assert all(one is other for one, other in zip(again.resources, compiler.compile(view).resources, strict=True))
