"""Documents through the API: validate all, write by compare-and-set, record the history. Nothing or everything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
from aiohttp import web

from meshd.admin import whole
from meshd.admin.shapes import Applied, ApplyResult, ProblemRow
from meshd.agent import Agent
from meshd.control import history
from meshd.control.status import digest
from policies.compile import compile_host
from policies.parse import FileDocument, parse, parse_file
from policies.problem import Problem
from policies.schema.kinds import AnyDocument
from registry import keys
from registry.api.answers import JSON
from registry.errors import Conflict
from registry.interest import CALLER_KINDS, HOST_KINDS
from registry.model import Document
from registry.store import Entry, Op, Store

NAMED = frozenset((*CALLER_KINDS, *HOST_KINDS))


class Refused(Exception):
    """Nothing was written: these are the reasons."""

    def __init__(self, rows: tuple[ProblemRow, ...]) -> None:
        super().__init__(f"{len(rows)} problems")
        self.rows = rows

    def response(self) -> web.Response:
        """400 with the error body of the API and the problems beside it."""
        first = self.rows[0]
        body = {
            "error": f"{first.document}: {first.reason}",
            "field": first.path,
            "hint": first.hint,
            "problems": self.rows,
        }
        return web.Response(status=400, body=msgspec.json.encode(body), content_type=JSON)


@dataclass(frozen=True)
class Plan:
    """Documents that passed validation, in the order of the file."""

    texts: tuple[FileDocument, ...]
    documents: tuple[AnyDocument, ...]


def plan(text: bytes) -> Plan:
    """Read and validate. Raises Refused with every problem of every document."""
    file = parse_file(text, file="")
    rows = [row(one) for one in file.problems]
    found: list[AnyDocument] = []
    names: set[tuple[str, str]] = set()
    for part in file.documents:
        parsed = parse(part.kind, part.name, part.text, version=0, first_line=part.line)
        rows += [row(one) for one in parsed.problems]
        if (part.kind, part.name) in names:
            rows.append(ProblemRow(document=f"{part.kind}/{part.name}", reason="is in the file twice", line=part.line))
        names.add((part.kind, part.name))
        if parsed.document is not None:
            found.append(parsed.document)
    if rows:
        raise Refused(tuple(rows))
    return Plan(file.documents, tuple(found))


async def warnings(agent: Agent, planned: Plan) -> tuple[ProblemRow, ...]:
    """Faults across documents that these would bring: they do not stop the write."""
    named = frozenset(one.name for one in planned.documents if keys.valid_name(one.name) and one.kind in NAMED)
    new = {(one.kind, one.name): one for one in planned.documents}
    view = (await whole.around(agent, named, new)).view
    wanted = view.wanted | named
    before = {str(one) for one in compile_host(replace(view, wanted=wanted)).problems}
    documents = dict(view.documents) | new
    after = compile_host(replace(view, wanted=wanted, documents=documents)).problems
    return tuple(row(one, refused=False) for one in after if str(one) not in before)


async def write(
    store: Store, planned: Plan, who: str, now: float, *, before: Sequence[Entry | None] | None = None
) -> tuple[Applied, ...]:
    """Compare-and-set all of them at once. Raises Conflict when somebody else was quicker, and as the store does.

    `before`: the entries that the texts were made from; without, what is there now is replaced.
    """
    entries = before or [await store.get(keys.policy(one.kind, one.name)) for one in planned.texts]
    ops = [
        Op(key=keys.policy(one.kind, one.name), value=one.text, expect=entry.version if entry else 0)
        for one, entry in zip(planned.texts, entries, strict=True)
        if entry is None or entry.value != one.text
    ]
    if ops:
        await _commit(store, ops)
    applied = []
    for one, entry in zip(planned.texts, entries, strict=True):
        applied.append(await _applied(store, one, entry, who, now))
    return tuple(applied)


async def _commit(store: Store, ops: list[Op]) -> None:
    try:
        await store.transact(ops)
    except Conflict as error:
        raise Conflict(f"somebody else wrote at the same time, nothing was written: {error}; apply again") from error


async def _applied(store: Store, one: FileDocument, before: Entry | None, who: str, now: float) -> Applied:
    changed = before is None or before.value != one.text
    entry = await store.get(keys.policy(one.kind, one.name)) if changed else before
    version = entry.version if entry is not None else 0
    if changed and version:
        await history.write(store, Document(kind=one.kind, name=one.name, text=one.text, version=version), who, now)
    return Applied(kind=one.kind, name=one.name, version=version, digest=digest(one.text), changed=changed)


async def result(agent: Agent, applied: tuple[Applied, ...], found: tuple[ProblemRow, ...]) -> ApplyResult:
    """`nodes`: all joined hosts; those that hold a lease where the registry does not say."""
    nodes = (await whole.read(agent, hosts=True)).nodes or agent.fold.leases
    return ApplyResult(applied=applied, nodes=tuple(sorted(nodes)), warnings=found)


def dry(planned: Plan) -> tuple[Applied, ...]:
    """What would be written."""
    return tuple(
        Applied(kind=one.kind, name=one.name, version=0, digest=digest(one.text), changed=True) for one in planned.texts
    )


def row(one: Problem, *, refused: bool = True) -> ProblemRow:
    return ProblemRow(
        document=f"{one.kind}/{one.name}" if one.kind else one.file or "file",
        reason=one.reason,
        path=one.path,
        line=one.line or None,
        hint=one.hint,
        refused=refused,
    )
