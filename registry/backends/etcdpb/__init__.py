"""Messages of etcd's v3 API, generated from `etcd.proto`; `deploy/setup/protobuf.sh` makes them anew."""
