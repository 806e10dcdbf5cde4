"""One violation per rule, each in a file of its own that the tree does not have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """`rule` is what the linter must print beside `path`."""

    rule: str
    path: str
    text: str
    append: bool = False  # to a file that the tree has


LONG = "\n".join(f"    total += {number}" for number in range(45))

# What ruff finds: banned names, also under an alias and imported from their module
RUFF = (
    Plant(
        "TID251", "meshd/planted_task.py", "import asyncio as a\n\n\nasync def f() -> None:\n    a.create_task(f())\n"
    ),
    Plant("TID251", "registry/planted_group.py", "from asyncio import TaskGroup\n\nGROUP = TaskGroup\n"),
    Plant("TID251", "registry/planted_future.py", "import asyncio\n\nENSURE = asyncio.ensure_future\n"),
    Plant("TID251", "tests/unit/test_planted_mock.py", "from unittest.mock import Mock\n\nMOCK = Mock\n"),
    Plant("E501", "policies/planted_line.py", f"TEXT = '{'x' * 130}'\n"),
    Plant("F401", "policies/planted_import.py", "import json\n"),
    Plant("ASYNC251", "meshd/planted_sleep.py", "import time\n\n\nasync def f() -> None:\n    time.sleep(1)\n"),
)

# import-linter: the rule's name, and a module that breaks it
IMPORTS = (
    Plant("layers: meshd > policies > registry", "registry/planted_layers.py", "import policies.compiled\n"),
    Plant("policies may not reach registry internals", "policies/planted_backend.py", "import registry.backends\n"),
    Plant("policies is pure", "policies/planted_asyncio.py", "import asyncio\n"),
    Plant("only meshd.stores picks a backend", "meshd/planted_pick.py", "import registry.backends.sqlite\n"),
    Plant("backends are independent", "registry/backends/consul.py", "import registry.backends.sqlite\n", append=True),
)

# What mypy finds, being strict
TYPES = (
    Plant("no-untyped-def", "registry/planted_untyped.py", "def f(x):\n    return x\n"),
    Plant("no-any-return", "meshd/planted_any.py", "import json\n\n\ndef f() -> int:\n    return json.loads('1')\n"),
)

# tests.repo
HOUSE = (
    Plant("file-budget", "tests/planted_file.py", "X = 1\n" * 451),
    Plant("function-budget", "meshd/planted_long.py", f"def f() -> int:\n    total = 0\n{LONG}\n    return total\n"),
    Plant("parameter-budget", "meshd/planted_wide.py", "def f(a, b, c, d, e, *, g, h) -> None: ...\n"),
    Plant(
        "nesting-budget",
        "meshd/planted_deep.py",
        "def f(x: int) -> None:\n    for a in range(x):\n        if a:\n            while a:\n"
        "                if x:\n                    break\n",
    ),
    Plant("task-creation", "meshd/planted_loop.py", "def f(loop, g) -> None:\n    loop.create_task(g())\n"),
    Plant(
        "task-creation",
        "registry/planted_thread.py",
        "def f(x, loop, a) -> None:\n    a.run_coroutine_threadsafe(x, loop)\n",
    ),
    Plant("module-state", "registry/planted_cache.py", "cache = {}\n"),
    Plant("module-state", "registry/planted_table.py", "TABLE = {}\n\n\ndef f() -> None:\n    TABLE[1] = 2\n"),
    Plant("module-state", "policies/planted_global.py", "X = 1\n\n\ndef f() -> None:\n    global X\n    X = 2\n"),
    Plant("vague-name", "meshd/utils.py", ""),
    Plant("vague-name", "registry/common/planted.py", ""),
    Plant("twin-test", "policies/planted_twinless.py", "X = 1\n"),
    Plant("machine-path", "docs/planted.md", "see " + "/wo" + "rk/main\n"),
    Plant("pinned-without-address", "deploy/requirements-planted.txt", "--index-url https://index.example/simple\n"),
    Plant("pinned-without-address", "deploy/requirements-loose.txt", "aiohttp>=3\n"),
    Plant("reason-missing", "meshd/planted_noqa.py", "import json  # no" + "qa: F401\n"),
    Plant("reason-missing", "meshd/planted_ignore.py", "X: int = 'x'  # type: " + "ignore[assignment]\n"),
    Plant("reason-missing", "meshd/proxy/src/planted.rs", "#[allow(dead_code)]\nfn f() {}\n"),
    Plant("stage-order", "meshd/proxy/src/route/planted.rs", "use crate::{\n    headers,\n    connect::pool,\n};\n"),
    Plant("stage-order", "meshd/proxy/src/identity/planted.rs", "use crate::balance::ewma;\n"),
    Plant("unsafe-code", "meshd/proxy/src/planted_unsafe.rs", "// why not\n#![allow(unsafe_code)]\n"),
    Plant("test-cannot-fail", "tests/unit/test_planted_idle.py", "def test_it() -> None:\n    print(1)\n"),
    Plant(
        "fixed-sleep",
        "tests/unit/test_planted_sleep.py",
        "import time\n\n\ndef test_it() -> None:\n    time.sleep(1)\n    assert True\n",
    ),
)

# clippy and rustc: denied in the crate's manifest or by the flags of `make lint`
RUST = (
    Plant("clippy::unwrap-used", "unwrap", "pub fn planted_unwrap(x: Option<u8>) -> u8 {\n    x.unwrap()\n}\n"),
    Plant("clippy::expect-used", "expect", 'pub fn planted_expect(x: Option<u8>) -> u8 {\n    x.expect("x")\n}\n'),
    Plant("clippy::panic", "panic", 'pub fn planted_panic() {\n    panic!("x")\n}\n'),
    Plant("unsafe-code", "unsafe", "pub fn planted_unsafe(x: *const u8) -> u8 {\n    unsafe { *x }\n}\n"),
    Plant(
        "clippy::too-many-arguments",
        "arguments",
        "pub fn planted_wide(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> u8 {\n"
        "    a + b + c + d + e + f + g\n}\n",
    ),
    Plant(
        "clippy::too-many-lines",
        "lines",
        "pub fn planted_long(mut x: u64) -> u64 {\n" + "    x = x.wrapping_mul(3);\n" * 55 + "    x\n}\n",
    ),
)
