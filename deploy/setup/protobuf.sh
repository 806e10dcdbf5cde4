#!/bin/sh
# The generated messages of etcd's API, committed so that an installation needs no compiler. grpcio-tools 1.76 on purpose:
# its code loads on protobuf 6.31 and everything later, that of newer releases refuses older libraries.
set -eu
cd "$(dirname "$0")/../.."
command -v uv >/dev/null || {
    echo "uv is missing: install it (it fetches the compiler into a throw-away environment)" >&2
    exit 78
}
uv run --no-project --quiet --with 'grpcio-tools==1.76.*' python -m grpc_tools.protoc -I. \
    --python_out=. --pyi_out=. registry/backends/etcdpb/etcd.proto
