"""A service's defaults with other `Registries`: the author's text with that one field changed, nothing else."""

import json
from collections.abc import Collection
from dataclasses import replace

import msgspec
import yaml

from policies.parse import parse
from policies.problem import plain
from policies.schema.service_defaults import ServiceDefaults
from registry import keys
from registry.errors import Denied

FIELD = "Registries"


def rewritten(service: str, text: bytes, base: str, registries: tuple[str, ...]) -> bytes:
    """The text of `service-defaults/<service>`, from that of `service-defaults/<base>` (the same, or a pattern; empty:
    from nothing), with these registries. Raises Denied for a text that cannot be changed without changing more."""
    before = parse(ServiceDefaults.kind, base or service, text, version=0).document if text else None
    dropped = {plain(FIELD)} if base == service else {plain(FIELD), plain("Name")}
    try:
        made = _edited(text.decode(), dropped, registries).encode()
    except (ValueError, yaml.YAMLError) as error:
        raise _by_hand(service, base, registries, str(error)) from error
    after = parse(ServiceDefaults.kind, service, made, version=0).document
    wanted = before if isinstance(before, ServiceDefaults) else ServiceDefaults(name=service, version=0)
    if after is None or (text and before is None) or after != replace(wanted, name=service, registries=registries):
        raise _by_hand(service, base, registries, "its text cannot be changed in place")
    return made


def _edited(text: str, dropped: Collection[str], registries: tuple[str, ...]) -> str:
    line = f"{FIELD}: [{', '.join(registries)}]\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return text + line
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("it is no mapping")
    if root.flow_style:
        tree = {key: value for key, value in yaml.safe_load(text).items() if plain(key) not in dropped}
        return msgspec.json.format(json.dumps(tree | {FIELD: list(registries)}), indent=2) + "\n"
    lines = text.splitlines(keepends=True)
    for key, value in reversed(root.value):
        if plain(key.value) in dropped:
            del lines[key.start_mark.line : _last_line(value) + 1]
    kept = "".join(lines)
    return kept + ("" if kept.endswith("\n") or not kept else "\n") + line


def _last_line(node: yaml.Node) -> int:
    """Where a value ends; a block's own mark lies behind the comments that follow it."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    return int(node.end_mark.line)


def _by_hand(service: str, base: str, registries: tuple[str, ...], why: str) -> Denied:
    key = keys.policy(ServiceDefaults.kind, base or service).removeprefix(keys.PREFIX)
    return Denied(f"{key}: {why}: write `{FIELD}: [{', '.join(registries)}]` into service-defaults/{service} by hand")
