"""Two registries told in any order, lost and found again: the merged picture is what both hold together."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from registry import keys
from registry.merge import Merge, Rule
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent
from tests.contract.validators import apply, honest, ordered, unique

NAMES = ("home", "other")
KEYS = tuple(keys.instance(service, node, "1") for service in ("web", "api") for node in ("a", "b"))
VALUES = ("active", "withdrawn", "maintenance", "foreign")

Step = tuple[str, str, str]  # registry, key or "lost" or "back" or "anew", state or "" (deleted)
NAME = st.sampled_from(NAMES)
WRITE = st.tuples(NAME, st.sampled_from(KEYS), st.sampled_from(("", *VALUES)))
CONTACT = st.tuples(NAME, st.sampled_from(("lost", "back", "anew")), st.just(""))
STEPS = st.lists(st.one_of(WRITE, WRITE, CONTACT), max_size=40)


def document(state: str, number: int) -> bytes:
    """An instance as far as merging reads it; no two writes are the same."""
    inbound = "" if state == "foreign" else '"Inbound":{"Address":"10.0.0.1","Port":1},'
    return f'{{"State":"{"active" if state == "foreign" else state}",{inbound}"Port":{number}}}'.encode()


@dataclass
class Registry:
    """A store of one prefix, and what its watch has not told yet."""

    name: str
    holds: dict[str, Entry] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    told: dict[str, Entry] = field(default_factory=dict)
    index: int = 1
    lost: bool = False

    def write(self, key: str, state: str) -> WatchEvent | None:
        if not state and key not in self.holds:
            return None
        self.index += 1
        if state:
            entry = Entry(key=key, value=document(state, self.index), version=self.index, created=self.index)
            self.holds[key], self.states[key] = entry, state
        else:
            del self.holds[key], self.states[key]
        return None if self.lost else self.news()

    def news(self) -> WatchEvent:
        """What happened since the last event."""
        puts = tuple(entry for key, entry in self.holds.items() if self.told.get(key) != entry)
        deletes = tuple(self.told.keys() - self.holds.keys())
        self.told = dict(self.holds)
        return Batch(self.index, puts, deletes) if puts or deletes else Alive(self.index)

    def contact(self, word: str) -> WatchEvent | None:
        if word == "lost":
            self.lost = True
            return Lost("gone")
        self.lost = False
        if word == "back":
            return self.news()
        self.told = dict(self.holds)
        return Resync(self.index, tuple(self.holds.values()))


def expected(registries: list[Registry], rule: Rule) -> dict[str, bytes]:
    """The rules of `chosen` for registries in contact, said once more and by hand."""
    found = {}
    for key in KEYS:
        copies = [(one.states[key], one.holds[key].value) for one in registries if key in one.holds]
        standing = [copy for copy in copies if copy[0] != "withdrawn"]
        under_maintenance = [copy for copy in standing if copy[0] == "maintenance"]
        best = next(iter(under_maintenance or standing or copies), None)
        if best is None:
            continue
        service = key.rsplit("/", 2)[0]
        first_lists = any(other.startswith(service + "/") for other in registries[0].holds)
        hidden = rule == "priority" and best[0] == "foreign" and key not in registries[0].holds and first_lists
        if not hidden:
            found[key] = best[1]
    return found


def believed(near: Registry, away: Registry) -> dict[str, bytes]:
    """What counts of the keys that stand in the registry in contact, while the other is not."""
    kept = {key for key, entry in away.told.items() if b"maintenance" in entry.value}
    return {key: near.holds[key].value for key, state in near.states.items() if state == "active" and key not in kept}


@given(steps=STEPS, rule=st.sampled_from(("union", "priority")))
def test_any_interleaving_folds_to_the_union_of_both(steps: list[Step], rule: Rule) -> None:
    registries = {name: Registry(name) for name in NAMES}
    merge = Merge(NAMES, rule)
    events: list[WatchEvent] = []
    picture: dict[str, bytes] = {}

    def tell(name: str, event: WatchEvent | None) -> None:
        for one in merge.apply(name, event) if event is not None else ():
            events.append(one)
            apply(picture, one)

    for name in NAMES:
        tell(name, registries[name].contact("anew"))
    for name, what, state in steps:
        one = registries[name]
        known = set(picture)
        if what in KEYS:
            tell(name, one.write(what, state))
            continue
        tell(name, one.contact(what))
        if what == "lost":
            assert set(picture) == known, "losing contact takes nothing away"
        in_contact = [other for other in registries.values() if not other.lost]
        if len(in_contact) == len(NAMES):
            assert picture == expected(list(registries.values()), rule)
        if len(in_contact) == 1:
            near, away = sorted(registries.values(), key=lambda one: one.lost)
            assert believed(near, away).items() <= picture.items()
    for name in NAMES:
        tell(name, registries[name].contact("back"))
    assert picture == expected(list(registries.values()), rule)
    assert {key: entry.value for key, entry in merge.entries.items()} == picture
    ordered(events)
    unique(events)
    honest(events)


@given(steps=STEPS, order=st.permutations(range(4)))
def test_what_only_a_lost_registry_knew_stays(steps: list[Step], order: list[int]) -> None:
    """Whatever the other says of other keys."""
    home, other = Registry("home"), Registry("other")
    merge = Merge(NAMES)
    for one in (home, other):
        list(merge.apply(one.name, one.contact("anew") or Alive(1)))
    for number in order:
        list(merge.apply("other", other.write(KEYS[number], "active") or Alive(1)))
    kept = dict(merge.entries)
    list(merge.apply("other", other.contact("lost") or Lost("")))
    touched = set()
    for _, key, state in steps:
        if key in KEYS:
            touched.add(key)
            event = home.write(key, state)
            list(merge.apply("home", event) if event is not None else ())
    assert all(merge.entries[key] == kept[key] for key in kept.keys() - touched)
