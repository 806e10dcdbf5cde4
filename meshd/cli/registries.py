"""`meshctl registry list`, `diff` and `migrate`: a mesh with several registries."""

import time
from collections.abc import Callable, Sequence

import click
import msgspec

from meshd.admin.shapes import ApplyResult, PlacedInstance, RegistryDiff, RegistryRow, ServicePlacement
from meshd.cli.documents import Seconds
from meshd.cli.output import OUTPUT, emit, note, rows
from meshd.cli.target import Target
from meshd.cli.waiting import wait_in_force

LOOK_EVERY = 0.3  # seconds


@click.command("list")
@OUTPUT
@click.pass_obj
def list_registries(target: Callable[[], Target], output: str) -> None:
    """The registries of this host: whether they answer, and what they hold."""
    value = target().read("/v1/mesh/registries", list[RegistryRow])
    emit(value, output, lambda: show_list(value))


def show_list(value: Sequence[RegistryRow]) -> None:
    rows(
        ("REGISTRY", "KIND", "HOME", "REACHABLE", "LAST HEARD", "SERVICES", "INSTANCES"),
        [
            (
                one.name,
                one.kind,
                "yes" if one.home else "no",
                "yes" if one.reachable else "NO",
                f"{one.last_event_age:.1f}s ago" if one.last_event_age >= 0 else "never",
                one.services,
                one.instances if one.reachable else f"{one.instances} last known",
            )
            for one in value
        ],
    )
    for one in value:
        if one.reason:
            note(f"{one.name}: {one.reason}")


@click.command()
@click.argument("a")
@click.argument("b")
@OUTPUT
@click.pass_obj
def diff(target: Callable[[], Target], a: str, b: str, output: str) -> None:
    """Instances that registries A and B do not show alike. Exits 0 when there are none, else 1.

    \b
    Example:
      meshctl registry diff home etcd
    """
    value = target().read("/v1/mesh/registries/diff", RegistryDiff, query={"a": a, "b": b})
    emit(value, output, lambda: show_diff(value))
    if value.rows:
        raise click.exceptions.Exit(1)


def show_diff(value: RegistryDiff) -> None:
    said = {"a": f"only in {value.a}", "b": f"only in {value.b}"}
    rows(
        ("INSTANCE", "DIFFERENCE"),
        [(one.instance, said.get(one.only) or f"differs: {', '.join(one.fields)}") for one in value.rows],
        empty=f"{value.a} and {value.b} hold the same",
    )
    note(f"{value.same} alike in both")


@click.command()
@click.option("--service", required=True, help="the service whose instances move")
@click.option("--to", "goal", required=True, metavar="NAME", help="registry that it is to be in afterwards")
@click.option("--timeout", type=Seconds(), default="120s", show_default=True, help="for each of the two steps")
@click.option("--yes", is_flag=True, help="do it; without, only what would be done is said")
@click.pass_obj
def migrate(target: Callable[[], Target], service: str, goal: str, timeout: float, yes: bool) -> None:
    """Move a service to another registry, under load: first into both, then out of the old one.

    What says so is `Registries` of its service-defaults; each host moves its own instances. Interrupted or out of
    time, it goes on when it is run again; back is --to the other one.

    \b
    Examples:
      meshctl registry migrate --service web --to etcd --yes
      meshctl registry migrate --service web --to home --yes
    """
    move = Move(target(), service, goal, timeout)
    found = move.look()
    refuse(found, goal)
    if not yes:
        for line in plan(found, goal):
            click.echo(line)
        raise click.UsageError("nothing was done: say --yes")
    move.run(found)
    click.echo(f"{service} is in {goal}")


def refuse(found: ServicePlacement, goal: str) -> None:
    """Raises ClickException when a move would leave somebody out."""
    if goal not in found.registries:
        raise click.ClickException(f"this host has no registry {goal} (it has {', '.join(found.registries)})")
    wanted = {goal, *sources(found, goal)}
    lacking = {host: sorted(wanted - known.keys()) for host, known in found.hosts.items() if wanted - known.keys()}
    if lacking:
        named = "; ".join(f"{host} lacks {', '.join(names)}" for host, names in lacking.items())
        raise click.ClickException(
            f"not every host knows both registries: {named}\n  hint: name them under Registries in its configuration"
        )
    foreign = [f"{one.name} (in {', '.join(one.foreign)})" for one in found.instances if set(one.foreign) - {goal}]
    if foreign:
        raise click.ClickException(
            f"registered by other tools, which alone can move them: {'; '.join(foreign)}\n"
            f"  hint: register them with meshd, or with their own tool in {goal}, first"
        )


def sources(found: ServicePlacement, goal: str) -> tuple[str, ...]:
    """Registries that it is moved out of: those its defaults name, and those that hold it."""
    named = (*(found.named or (found.home,)), *(name for one in found.instances for name in one.standing))
    return tuple(name for name in found.registries if name in named and name != goal)


def plan(found: ServicePlacement, goal: str) -> list[str]:
    """What `--yes` would do."""
    old = sources(found, goal)
    if not old:
        return [f"{found.service}: in {goal} alone already"]
    both = ", ".join([*old, goal])
    kept = f" (the rest as in service-defaults/{found.document})" if found.document else ""
    return [
        f"1. write Registries: [{both}] into service-defaults/{found.service}{kept}",
        f"2. wait until its {len(found.instances)} instances are in {goal}, and {len(found.hosts)} hosts follow it",
        f"3. write Registries: [{goal}]",
        f"4. wait until {', '.join(old)} hold none of them",
    ]


class Move:
    """One move. `timeout`: seconds for each of its two steps."""

    def __init__(self, api: Target, service: str, goal: str, timeout: float) -> None:
        self._api = api
        self._service = service
        self._goal = goal
        self._timeout = timeout

    def look(self) -> ServicePlacement:
        return self._api.read(f"/v1/mesh/registries/placement/{self._service}", ServicePlacement)

    def run(self, found: ServicePlacement) -> None:
        for host in found.silent:
            note(f"host {host} is silent: it is not waited for")
        old = sources(found, self._goal)
        if old or found.named != (self._goal,):
            self._write([*old, self._goal], found)
            self._until(lambda now: not_yet_in(now, self._goal))
            self._write([self._goal], found)
        self._until(lambda now: still_in(now, self._goal))

    def _write(self, registries: Sequence[str], found: ServicePlacement) -> None:
        body = {"registries": list(registries)}
        result = self._api.send(f"/v1/mesh/registries/placement/{self._service}", body, ApplyResult)
        note(f"{self._service}: Registries: [{', '.join(registries)}]")
        result = msgspec.structs.replace(result, nodes=tuple(found.hosts))
        late = wait_in_force(self._api, result, self._timeout)
        if late:
            raise self._stopped(late)

    def _until(self, missing: Callable[[ServicePlacement], Sequence[str]]) -> None:
        """Until nothing is missing, which is told whenever it changes."""
        end, told = time.monotonic() + self._timeout, ""
        while late := missing(self.look()):
            if time.monotonic() >= end:
                raise self._stopped(late)
            text = "; ".join(late)
            if text != told:
                note(f"waiting for {len(late)}: {text}")
                told = text
            time.sleep(LOOK_EVERY)

    def _stopped(self, late: Sequence[str]) -> click.ClickException:
        return click.ClickException(
            f"not within {self._timeout:g} s: {'; '.join(late)}\n  hint: nothing is lost; run it again, it goes on"
        )


def not_yet_in(now: ServicePlacement, goal: str) -> tuple[str, ...]:
    """Pure: what stands in the way of leaving the old registry."""
    apart = [
        f"host {host} has no contact to {goal}: {seen[goal]}" for host, seen in now.hosts.items() if seen.get(goal)
    ]
    return (*apart, *(f"{one.name} is not in {goal}" for one in ours(now) if goal not in one.standing))


def still_in(now: ServicePlacement, goal: str) -> tuple[str, ...]:
    """Pure: instances that another registry still holds."""
    left = [(one.name, [name for name in one.standing if name != goal]) for one in ours(now)]
    return tuple(f"{name} is still in {', '.join(names)}" for name, names in left if names)


def ours(now: ServicePlacement) -> list[PlacedInstance]:
    return [one for one in now.instances if not one.foreign]
