"""What a host follows covers every document and instance that could decide about its requests, and not the mesh."""

from hypothesis import given
from hypothesis import strategies as st

from policies.parse import parse
from policies.schema.kinds import AnyDocument
from policies.select import Index
from registry import interest, keys
from registry.interest import BASE, CALLER_KINDS, HOST_KINDS, Interest, selectors

NAMES = st.text("abw-1", min_size=1, max_size=5)
SERVICES = st.frozensets(NAMES, max_size=4)
TEXTS = {
    "service-defaults": b"Protocol: http",
    "service-router": b"Routes: []",
    "service-splitter": b"Splits: [{Weight: 100}]",
    "service-resolver": b"{}",
    "service-intentions": b"Sources: []",
}


def document(kind: str, name: str) -> AnyDocument:
    found = parse(kind, name, TEXTS[kind], version=1).document
    assert found is not None
    return found


@given(
    called=SERVICES,
    hosted=SERVICES,
    written=st.frozensets(
        st.tuples(st.sampled_from(sorted(TEXTS)), st.one_of(NAMES, NAMES.map("{}*".format), st.just("*")))
    ),
    everywhere=st.booleans(),
)
def test_every_document_that_the_compiler_would_find_is_followed(
    called: frozenset[str], hosted: frozenset[str], written: frozenset[tuple[str, str]], everywhere: bool
) -> None:
    mine = Interest(called=called, hosted=hosted, all_policy=everywhere)
    followed = selectors(mine)
    index = Index({name: document(*name) for name in written})
    for kinds, services in ((CALLER_KINDS, called), (HOST_KINDS, hosted)):
        for kind in kinds:
            for name in (name for service in services for name in index.names(kind, service)):
                assert any(keys.covers(one, keys.policy(kind, name)) for one in followed)
                assert interest.concerns(mine, kind, name)
    for kind, name in written:  # and nothing else is, but where all is
        if not interest.concerns(mine, kind, name):
            assert not any(keys.covers(one, keys.policy(kind, name)) for one in followed)


def test_what_is_needed_per_service_can_be_told_service_by_service() -> None:
    followed = selectors(Interest(called=frozenset({"api", "db"}), hosted=frozenset({"web"})))
    parts = interest.calling("api") | interest.calling("db") | interest.hosting("web")
    assert followed == BASE | parts | {interest.endpoints("web"), keys.POLICY + "fault/"}


def test_patterns_of_a_name_are_exact_keys() -> None:
    assert interest.patterns("web") == ("web", "*", "w*", "we*", "web*")
    assert keys.policy("service-router", "we*") in interest.calling("web")
    assert keys.policy("service-intentions", "we*") not in interest.calling("web")
    assert keys.policy("service-intentions", "we*") in interest.hosting("web")


def test_a_host_does_not_follow_the_mesh() -> None:
    followed = selectors(Interest(called=frozenset({"api"}), hosted=frozenset({"web"})))
    for key in (keys.instance("db", "a", "1"), keys.policy("service-router", "db"), keys.node("a"), keys.status("a")):
        assert not any(keys.covers(one, key) for one in followed)


def test_a_host_with_a_role_follows_all_documents_but_not_all_services() -> None:
    followed = selectors(Interest(called=frozenset({"api"}), all_policy=True))
    assert followed == BASE | {keys.POLICY, interest.endpoints("api")}


def test_where_watches_are_dear_one_wide_watch_takes_the_place_of_many() -> None:
    few = Interest(called=frozenset({"a", "b"}))
    many = Interest(called=frozenset(f"service-{n}" for n in range(20)))
    most = Interest(called=frozenset(f"service-{n}" for n in range(200)))
    assert len(selectors(few, 100)) < 100
    assert keys.POLICY not in selectors(few, 100)
    assert selectors(many, 100) == BASE | {keys.POLICY} | set(map(interest.endpoints, many.called))
    assert selectors(most, 100) == BASE | {keys.POLICY, keys.SERVICES}
    assert keys.SERVICES not in selectors(most)


def test_a_host_that_went_wide_stays_wide() -> None:
    few, wide = Interest(called=frozenset({"a"})), BASE | {keys.POLICY, keys.SERVICES}
    assert selectors(few, 100, wide) == wide
    assert keys.POLICY not in selectors(few, None, wide), "where watches are cheap there is nothing to be saved"


def test_faults_and_the_mesh_document_concern_everybody() -> None:
    nobody = Interest()
    assert interest.concerns(nobody, "mesh", "mesh")
    assert interest.concerns(nobody, "fault", "slow")
    assert not interest.concerns(nobody, "service-router", "*")
    assert interest.concerns(Interest(called=frozenset({"web"})), "service-router", "*")
