"""What a proxied request costs, ours beside peers in the same run.

    .venv/bin/python -m tests.bench NAME... --duration 5 --conns 64 --rounds 3 --workers 1 --json
    .venv/bin/python -m tests.bench.control FIGURE... --short

The figure that holds on a shared machine is CPU time of the proxy processes per request, as a ratio to peers of the
same run; requests per second and latency are told, not judged. Rounds are interleaved (A B A B), each on freshly
started processes; one failed request makes the run invalid (exit 1).

`topology` names what can be measured · `peers` nginx and HAProxy, tuned · `hosts` real meshd hosts ·
`measure` one row · `procfs` reads CPU and memory · `wrk` drives · `summary` compares ·
`control` the five figures of the control plane.
"""
