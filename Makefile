# The same names for people and CI (.ci/run = lint types test). Each target does its own set-up; a second run compiles
# and downloads nothing. Give further arguments as ARGS="...".
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
CRATE := meshd/proxy/Cargo.toml
CARGO_FLAGS := --locked --manifest-path $(CRATE)
# What `make test` leaves to others: kill stories (make mesh), foreign servers that are killed, frozen and wiped
# (make outages), the wheel (make wheel), the demo (its own step below).
TEST_MARKS := not mesh_long and not outages and not quick_start and not wheel
# Foreign programs: what tests and the bench drive and compare with.
TOOLS := consul py-consul etcd etcdctl nginx haproxy wrk dockerd etcd-3.7 consul-1.13
# Two at a time, a file's tests together: the stories of one file share their hosts.
PYTEST_ARGS ?= -q -n 2 --dist loadfile
FUZZ_SECONDS ?= 30

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## -- what people run

.PHONY: demo
demo: setup ## three hosts on this machine: carry, deny, split, survive (KEEP=1 leaves it up, REGISTRY=consul)
	@$(PYTHON) -m tests.demo $(ARGS)

.PHONY: test
test: test-python test-rust test-demo test-bench ## all tests: Python, Rust, the quick start's demo, a bench smoke run

.PHONY: mesh
mesh: setup ## kill stories: meshd, app and registry killed or frozen under load, no request may fail
	$(PYTEST) -m mesh_long --timeout 300 $(ARGS)

.PHONY: outages
outages: setup tools-strict ## a real Consul, etcd and dockerd killed, frozen and wiped under the mesh
	$(PYTEST) -m outages --timeout 300 -n 2 --dist loadfile $(ARGS)

.PHONY: bench
bench: setup tools-strict ## CPU per request beside nginx and HAProxy (ARGS="meshd-pair haproxy-pair --rounds 5 --json")
	@$(PYTHON) -m tests.bench $(ARGS)

.PHONY: bench-control
bench-control: setup tools-strict ## the control plane's five figures on etcd and Consul (ARGS="propagation --check")
	@$(PYTHON) -m tests.bench.control $(ARGS)

.PHONY: fuzz
fuzz: ## parsers on random input, FUZZ_SECONDS (30) each
	BOLERO_RANDOM_TEST_TIME_MS=$(FUZZ_SECONDS)000 cargo test $(CARGO_FLAGS) fuzz -- --test-threads 2 $(ARGS)

## -- checks

.PHONY: fmt
fmt: venv ## format Python and Rust
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix --quiet . || true
	cargo fmt --manifest-path $(CRATE)

.PHONY: lint
lint: lint-python lint-rust ## formats, bans, import directions, house rules, clippy

.PHONY: lint-python
lint-python: venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m tests.repo

.PHONY: lint-rust
lint-rust:
	cargo fmt --manifest-path $(CRATE) --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings -D clippy::too_many_lines

.PHONY: types
types: venv ## mypy, strict
	.venv/bin/mypy
	.venv/bin/mypy tests/load tests/bench tests/repo tests/tools.py

.PHONY: test-python
test-python: setup tools
	$(PYTEST) -m "$(TEST_MARKS)" $(PYTEST_ARGS)

.PHONY: test-rust
test-rust:
	cargo test $(CARGO_FLAGS) --workspace

.PHONY: test-demo
test-demo: setup
	$(PYTEST) -m quick_start --timeout 300 -s

.PHONY: test-bench
test-bench: setup tools
	@if PATH="$$PATH:/usr/sbin:/sbin" && command -v wrk nginx >/dev/null; then \
		$(PYTHON) -m tests.bench direct meshd-hop meshd-pair nginx-hop --duration 1 --rounds 1 --conns 16 && \
		$(PYTHON) -m tests.bench.control propagation fanout endpoints --short; \
	else echo "SKIPPED: bench smoke run (wrk or nginx is missing)"; [ "$$CI" != true ]; fi

.PHONY: cover
cover: setup ## line coverage of registry and policies by the in-process tests
	.venv/bin/coverage run --source registry,policies -m pytest -q -m "not mesh and $(TEST_MARKS)" tests/unit tests/contract tests/property
	.venv/bin/coverage report --include 'registry/*' --fail-under 90
	.venv/bin/coverage report --include 'policies/*' --fail-under 95

## -- set-up

.PHONY: setup
setup: venv proxy ## .venv and the proxy's release binary, which meshd finds beside itself, as after an installation
	@[ -n "$$MESHD_PROXY_BIN" ] || ln -sfn ../../target/release/meshd-proxy .venv/bin/meshd-proxy

.PHONY: venv
venv:
	@sh deploy/setup/venv.sh

.PHONY: proxy
proxy: ## target/release/meshd-proxy, built once per content of the crate
	@sh deploy/setup/proxy.sh

# People without root get their tests with skips shown; CI must have everything.
.PHONY: tools
tools: ## consul and etcd, two versions of each, into .cache; nginx, haproxy, wrk and dockerd with apt-get
	@sh deploy/setup/tools.sh $(TOOLS) || { [ $$? = 78 ] && [ "$$CI" != true ] && echo "tests that need it are skipped" >&2; }

.PHONY: tools-strict
tools-strict:
	@sh deploy/setup/tools.sh nginx haproxy wrk etcd consul

.PHONY: wheel
wheel: setup ## dist/*.whl: three packages, meshd, meshctl and meshd-proxy; then prove it
	sh deploy/setup/wheel.sh
	$(PYTEST) -m wheel --timeout 300

.PHONY: requirements
requirements: ## write the pinned requirements anew, newest versions, with hashes and without addresses
	sh deploy/setup/requirements.sh

.PHONY: clean
clean: ## remove everything that was built here (tools in .cache stay)
	rm -rf .venv target build dist .demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
