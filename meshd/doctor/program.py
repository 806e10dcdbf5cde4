"""The proxy's binary: there, and of meshd's own version."""

import subprocess
from collections.abc import Mapping

from meshd.config import Host
from meshd.dataplane.supervise import ProxyMissing, binary
from meshd.doctor.check import Check, fail, ok, warn

WITHIN = 5.0  # seconds


def judge(path: str, said: str, ours: str) -> Check:
    """Pure. `said`: its answer to --version."""
    name, _, version = said.strip().partition(" ")
    if name != "meshd-proxy" or not version:
        return fail("proxy", f"{path} --version says {said.strip()[:80]!r}", "Proxy.Binary names another program")
    if version != ours:
        return warn("proxy", f"{path} is {version}, meshd is {ours}", "install both of one release")
    return ok("proxy", f"{path} {version}")


def examine(host: Host, environ: Mapping[str, str], ours: str) -> Check:
    try:
        path = binary(host, environ)
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=WITHIN, check=False)
    except ProxyMissing as error:
        return fail("proxy", str(error), "install meshd-proxy, or name it in Proxy.Binary")
    except (OSError, subprocess.SubprocessError) as error:
        return fail("proxy", f"cannot be run: {error}", "is it for this machine's architecture?")
    return judge(path, done.stdout, ours)
