"""The fold fed by many small watches: each listing speaks of its own keys, and what is wanted no more is forgotten."""

from registry import interest, keys
from registry.change import Change
from registry.fold import Fold
from registry.interest import BASE
from registry.shelf import SETTLE
from registry.store import Batch, Lost, Resync
from tests.unit.registry import made
from tests.unit.registry.test_fold import MOVED, NOTHING, WEB, document, leases, states

API_ONLY = interest.endpoints("api")
WEB_ONLY = interest.endpoints("web")
ROUTER = keys.policy("service-router", "web")
PATTERN = keys.policy("service-router", "w*")


def narrow(*selectors: str) -> Fold:
    fold = Fold(BASE | set(selectors))
    fold.apply(keys.LEASES, Resync(1, leases("a", "b", "c")), 0.0)
    return fold


def test_a_listing_of_one_service_says_nothing_of_another() -> None:
    fold = narrow(API_ONLY, WEB_ONLY)
    api = made.instance(service="api", id="api-1")
    fold.apply(API_ONLY, Resync(1, (made.stored(api),)), 0.0)
    fold.apply(WEB_ONLY, Resync(1, (made.stored(made.instance()),)), 0.0)
    assert fold.apply(WEB_ONLY, Resync(2, ()), 1.0) == MOVED
    assert states(fold, 1.0) == {"web-1": "suspect"}
    assert [one.state for one in fold.endpoints("api", 1.0)] == ["passing"]


def test_a_listing_of_one_key_says_nothing_of_another() -> None:
    fold = narrow(ROUTER, PATTERN)
    fold.apply(ROUTER, Resync(1, (document("web"),)), 0.0)
    fold.apply(PATTERN, Resync(1, (document("w*"),)), 0.0)
    assert set(fold.documents) == {("service-router", "web"), ("service-router", "w*")}
    fold.apply(PATTERN, Resync(2, ()), 1.0)
    fold.settle(1.0 + SETTLE)
    assert set(fold.documents) == {("service-router", "web")}


def test_what_is_wanted_no_more_is_forgotten_without_a_word() -> None:
    fold = narrow(API_ONLY, WEB_ONLY, ROUTER)
    fold.apply(WEB_ONLY, Resync(1, (made.stored(made.instance()), made.entry(f"{WEB_ONLY}a/bad", b"{"))), 0.0)
    fold.apply(ROUTER, Resync(1, (document("web"),)), 0.0)
    fold.apply(ROUTER, Lost("away"), 0.5)
    change = fold.want(BASE | {API_ONLY})
    assert change == Change(services=WEB, documents=frozenset({("service-router", "web")}))
    assert not fold.instances
    assert not fold.vanished
    assert not fold.documents
    assert not fold.problems
    assert not fold.unreachable
    assert not fold.held
    assert fold.apply(WEB_ONLY, Batch(2, (made.stored(made.instance()),)), 1.0) == NOTHING, "its last events"


def test_more_that_is_wanted_makes_the_picture_incomplete_until_it_is_listed() -> None:
    fold = Fold(BASE)
    for selector in BASE:
        fold.apply(selector, Resync(1, ()), 0.0)
    assert fold.complete
    fold.want(BASE | {WEB_ONLY})
    assert not fold.complete
    assert not fold.known(WEB_ONLY)
    fold.apply(WEB_ONLY, Resync(2, ()), 1.0)
    assert fold.complete
    assert fold.known(WEB_ONLY)


def test_a_wider_watch_takes_over_from_narrow_ones() -> None:
    fold = narrow(ROUTER)
    fold.apply(ROUTER, Resync(5, (document("web", version=5),)), 0.0)
    fold.want(BASE | {ROUTER, keys.POLICY})
    fold.apply(keys.POLICY, Resync(9, (document("web", version=9), document("api"))), 1.0)
    assert fold.apply(ROUTER, Batch(6, (document("web", version=6),)), 2.0) == NOTHING, "older than what is known"
    assert fold.documents["service-router", "web"].version == 9
    assert fold.want(BASE | {keys.POLICY}) == NOTHING
    assert set(fold.documents) == {("service-router", "web"), ("service-router", "api")}


def test_a_snapshot_fills_what_is_not_listed_yet_and_only_what_it_speaks_of() -> None:
    fold = narrow(API_ONLY, WEB_ONLY, ROUTER)
    fold.apply(ROUTER, Resync(7, (document("web", version=7),)), 0.0)
    saved = {
        keys.SERVICES: (made.stored(made.instance()),),
        keys.POLICY: (document("web", version=3), document("w*", version=3)),
    }
    fold.restore(saved, (), 1.0, (WEB_ONLY, ROUTER, PATTERN))
    assert fold.documents["service-router", "web"].version == 7, "listed already"
    assert fold.known(WEB_ONLY)
    assert not fold.known(API_ONLY)
    assert not fold.usable
    fold.want(BASE | {WEB_ONLY, ROUTER})
    assert set(fold.documents) == {("service-router", "web")}
    assert fold.restored == {WEB_ONLY}
    fold.apply(WEB_ONLY, Resync(8, ()), 2.0)
    assert not fold.restored
    assert states(fold, 2.0) == {"web-1": "suspect"}


def test_a_snapshot_of_a_wide_watch_speaks_for_the_narrow_ones() -> None:
    fold = Fold(BASE)
    fold.restore({keys.SERVICES: (made.stored(made.instance()), made.stored(made.instance(service="db")))}, (), 0.0)
    fold.want(BASE | {WEB_ONLY})
    assert fold.restored >= {WEB_ONLY}
    assert keys.SERVICES not in fold.restored
    assert fold.services == WEB


def test_rights_that_are_missing_here_and_there_are_no_loss_of_contact() -> None:
    fold = narrow(API_ONLY)
    assert fold.lost == ""
    fold.apply(API_ONLY, Lost("Denied: no right"), 0.0)
    assert fold.lost == ""
    fold.apply(keys.CONFIG, Lost("Unavailable: gone"), 0.0)
    assert fold.lost == "Unavailable: gone"
    for selector in fold.wanted:
        fold.apply(selector, Lost("Denied: not logged in"), 0.0)
    assert fold.lost == "Denied: not logged in"
