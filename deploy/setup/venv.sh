#!/bin/sh
# .venv: exactly deploy/requirements.txt (hash-pinned), and this tree as an editable install (console scripts meshd and
# meshctl). Does nothing when what it was made from is unchanged. Exit 78: this machine lacks something, named.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .cache
exec 9>.cache/venv.lock
flock 9 # two makes at once: the second waits and finds it done

made=.venv/.made-from
# The path is part of it: a virtual environment does not survive being moved.
want=$({ pwd; cat deploy/requirements.txt pyproject.toml; } | sha256sum | cut -d' ' -f1)
if [ -f "$made" ] && [ "$(cat "$made")" = "$want" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

find_python() {
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Python >= 3.11 is missing: install it (Debian 12: apt-get install python3 python3-venv)" >&2
    exit 78
}

# The tree itself is installed without build isolation: setuptools is pinned in the requirements, nothing is fetched,
# and without setuptools-rust in the environment no Rust is compiled a second time (the proxy is proxy.sh's).
if command -v uv >/dev/null 2>&1; then
    echo "set-up: Python environment .venv with uv" >&2
    export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
    if ! .venv/bin/python -c '' 2>/dev/null; then
        uv venv --quiet --clear --python "$(command -v "$(find_python)")" .venv
    fi
    uv pip install --quiet --python .venv/bin/python --require-hashes -r deploy/requirements.txt
    uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --offline -e .
else
    echo "set-up: Python environment .venv with venv and pip" >&2
    python=$(find_python)
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        rm -rf .venv
        "$python" -m venv .venv || {
            echo "the venv module is missing: install it (Debian: apt-get install python3-venv) or install uv" >&2
            exit 78
        }
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
fi
echo "$want" >"$made"
