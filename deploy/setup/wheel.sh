#!/bin/sh
# dist/*.whl from an environment that holds only what builds it; the release binary is taken from target/, not rebuilt.
set -eu
cd "$(dirname "$0")/../.."
env=.cache/wheel-venv
if ! "$env/bin/python" -c 'import setuptools_rust' 2>/dev/null; then
    echo "set-up: build environment $env" >&2
    if command -v uv >/dev/null; then
        uv venv --quiet --clear --python .venv/bin/python "$env"
        uv pip install --quiet --python "$env/bin/python" --require-hashes -r deploy/requirements-wheel.txt
    else
        .venv/bin/python -m venv --clear "$env"
        "$env/bin/python" -m pip install --quiet --require-hashes -r deploy/requirements-wheel.txt
    fi
fi
rm -rf dist build
mkdir -p dist
# The backend's own hook: no front end is needed, nothing is fetched.
"$env/bin/python" -c 'from setuptools import build_meta; print(build_meta.build_wheel("dist"))' >&2
rm -rf build *.egg-info # the wheel is what is wanted; leftovers would be found by whoever looks for sources
