"""The app and the peers, tuned: connections to the next hop kept, requests on them not limited, no logs.

A *hop* is client -> proxy -> app in plaintext; a *pair* is client -> proxy -> mutual TLS 1.3 -> proxy -> app.
"""

from tests.bench.stage import Stage, Target

BODY = "x" * 1024
APP_PORT, OUT_PORT, IN_PORT = 9001, 8001, 8443

NGINX = """worker_processes {workers}; daemon off; pid {pid}; error_log {log} error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600; {http} }}
"""
NGINX_PROXY = 'proxy_http_version 1.1; proxy_set_header Connection "";'
HAPROXY = """global
  nbthread {workers}
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind {bind}
  default_backend b
backend b
  server s {server}
"""


def app(stage: Stage, address: str = "") -> str:
    """nginx answering 1 KB; returns its `address:port`."""
    where = f"{address or stage.net + '.1'}:{APP_PORT}"
    server = f'server {{ listen {where} reuseport; location / {{ default_type text/plain; return 200 "{BODY}"; }} }}'
    nginx(stage, "app", server, measured=False)
    return where


def nginx(stage: Stage, name: str, http: str, *, measured: bool = True) -> None:
    conf = NGINX.format(
        workers=stage.workers, http=http, pid=stage.directory / f"{name}.pid", log=stage.directory / f"{name}.error.log"
    )
    path = stage.file(f"{name}.conf", conf)
    stage.start(name, "nginx", "-c", str(path), "-p", str(stage.directory), measured=measured)


def haproxy(stage: Stage, name: str, bind: str, server: str) -> None:
    path = stage.file(f"{name}.cfg", HAPROXY.format(workers=stage.workers, bind=bind, server=server))
    stage.start(name, "haproxy", "-db", "-f", str(path), measured=True)


def upstream(where: str) -> str:
    return f"upstream u {{ server {where}; keepalive 256; keepalive_requests 100000000; }}"


def target(stage: Stage, where: str) -> Target:
    return Target(f"http://{where}/", stage.measured, list)


def direct(stage: Stage) -> Target:
    return target(stage, app(stage))


def nginx_hop(stage: Stage) -> Target:
    out = f"{stage.net}.1:{OUT_PORT}"
    server = f"server {{ listen {out} reuseport; location / {{ proxy_pass http://u; {NGINX_PROXY} }} }}"
    nginx(stage, "out", upstream(app(stage)) + server)
    return target(stage, out)


def haproxy_hop(stage: Stage) -> Target:
    out = f"{stage.net}.1:{OUT_PORT}"
    haproxy(stage, "out", out, app(stage))
    return target(stage, out)


def nginx_pair(stage: Stage) -> Target:
    crt, out, into = stage.certificates(), f"{stage.net}.1:{OUT_PORT}", f"{stage.net}.2:{IN_PORT}"
    inbound = (
        f"server {{ listen {into} ssl reuseport; ssl_certificate {crt / 'api.crt'}; "
        f"ssl_certificate_key {crt / 'api.key'}; ssl_client_certificate {crt / 'ca.crt'}; ssl_verify_client on; "
        f"ssl_protocols TLSv1.3; location / {{ proxy_pass http://u; {NGINX_PROXY} }} }}"
    )
    outbound = (
        f"server {{ listen {out} reuseport; location / {{ proxy_pass https://u; {NGINX_PROXY} "
        f"proxy_ssl_certificate {crt / 'web.crt'}; proxy_ssl_certificate_key {crt / 'web.key'}; "
        f"proxy_ssl_trusted_certificate {crt / 'ca.crt'}; proxy_ssl_verify on; proxy_ssl_name api.mesh; "
        "proxy_ssl_protocols TLSv1.3; } }"
    )
    nginx(stage, "in", upstream(app(stage)) + inbound)
    nginx(stage, "out", upstream(into) + outbound)
    return target(stage, out)


def haproxy_pair(stage: Stage) -> Target:
    crt, out, into = stage.certificates(), f"{stage.net}.1:{OUT_PORT}", f"{stage.net}.2:{IN_PORT}"
    tls = f"ca-file {crt / 'ca.crt'} verify required ssl-min-ver TLSv1.3"
    haproxy(stage, "in", f"{into} ssl crt {crt / 'api.pem'} {tls}", app(stage))
    server = f"{into} ssl crt {crt / 'web.pem'} {tls} verifyhost api.mesh sni str(api.mesh)"
    haproxy(stage, "out", out, server)
    return target(stage, out)
