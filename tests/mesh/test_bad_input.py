"""What a host answers to what is wrong: registrations, requests, documents, tokens, configurations.

One mesh for all of it: host a (registry, authority, `web`) and host b (`api`).
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.mesh.cluster import API, BIN, PEER, AppProcess, Cluster, Host, Process, free_port, http, wait_for
from tests.mesh.witness import logged, samples
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(60)]

API_PORT, GHOST, EMPTY, DOWN, HELD = 9101, 9102, 9103, 9104, 9105
ALLOW = {"Sources": [{"Name": "web", "Action": "allow"}]}
INTENTION = "policy/service-intentions"


class Story:
    """`web` calls `api` (answers), `ghost` (nobody knows it), `empty` (ill), `down` (its app is not there)."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a: Host = mesh.first_host("a")
        self.b: Host = mesh.join("b", ["api", "empty", "down", "held"])
        self.web: AppProcess = mesh.app(self.a, "web", "web-1")
        self.api: AppProcess = mesh.app(self.b, "api", "api-1")
        names = {"api": API_PORT, "ghost": GHOST, "empty": EMPTY, "down": DOWN, "held": HELD}
        upstreams = [{"Service": name, "LocalBindPort": port} for name, port in names.items()]
        self.a.register({"Name": "web", "ID": "web-1", "Port": self.web.port, "Mesh": {"Upstreams": upstreams}})
        self.serve("api")
        self.serve("held")
        self.serve("empty", Check={"TTL": "60s"})
        self.serve("down", Port=free_port(self.b.address))
        for name in ("api", "empty", "down"):
            self.put(f"{INTENTION}/{name}", ALLOW)
        wait_for("the first call passes", lambda: self.status(API_PORT) == 200, 20)

    def serve(self, name: str, **more: object) -> None:
        basis = {"Name": name, "ID": f"{name}-1", "Port": self.api.port, "Mesh": {"Protocol": "http"}}
        self.b.register(basis | more)

    def put(self, key: str, document: object) -> None:
        """As `curl -X PUT`: nothing validates what is written straight to a key."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        assert http("PUT", f"{self.a.api}/v1/kv/mesh/v1/{key}", body=data).status == 200

    def url(self, port: int, path: str = "/") -> str:
        return f"http://{self.a.address}:{port}{path}"

    def status(self, port: int) -> int:
        return http("GET", self.url(port)).status

    def report(self, host: Host) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = http(
            "GET", f"{self.a.api}/v1/kv/mesh/v1/status/proxies/{host.name}?raw"
        ).json()
        return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("bad")) as mesh:
        yield Story(mesh)


# ---- registrations ------------------------------------------------------------------------------------------------

CHECK = {"Interval": "5s"}


@pytest.mark.parametrize(
    ("body", "field", "error", "hint"),
    [
        ({"Name": "api", "Port": 70000}, "Port", "out of range", "1 to 65535"),
        ({"Name": "api", "Port": "80"}, "Port", "whole number", "write 80 without quotes"),
        ({"Name": "api"}, "Port", "Port", "1 to 65535"),
        ({"Port": 80}, "Name", "Missing service name", '{"Name"'),
        ({"Name": "a/b", "Port": 80}, "Name", "is no name", "A-Z a-z 0-9"),
        ({"Name": "api", "Port": 80, "Prot": 1}, "Prot", "unknown field", "did you mean Port?"),
        ({"Name": "api", "Port": 80, "Tags": "x"}, "Tags", "must be a list", ""),
        ({"Name": "api", "Port": 80, "Mesh": {"Upstreems": []}}, "Mesh.Upstreems", "unknown", "mean Upstreams?"),
        ({"Name": "api", "Port": 80, "Mesh": {"Protocol": "http3"}}, "Mesh.Protocol", "http3", "tcp, http"),
        ({"Name": "api", "Port": 80, "Check": CHECK | {"Args": ["ls"]}}, "Check.Args", "over HTTP", "GRPC or TTL"),
        ({"Name": "api", "Port": 80, "Check": CHECK | {"HTTP": "http://192.0.2.1/"}}, "Check.HTTP", "of this host",
         "127.0.0.1"),
        ({"Name": "api", "Port": 80, "Check": {"TCP": "127.0.0.1:1", "Interval": "soon"}}, "Check.Interval", "'soon'",
         "5s"),
    ],
)  # fmt: skip
def test_a_malformed_registration_is_400_with_field_and_hint(
    story: Story, body: dict[str, object], field: str, error: str, hint: str
) -> None:
    answer = http("PUT", f"{story.b.api}/v1/agent/service/register", body=body)
    said = answer.json()
    assert (answer.status, said["field"]) == (400, field)
    assert error in said["error"]
    assert hint in said["hint"]


def test_what_is_no_json_object_is_400(story: Story) -> None:
    url = f"{story.b.api}/v1/agent/service/register"
    for body in (b"Name: api", b"[1]", b""):
        answer = http("PUT", url, body=body)
        assert (answer.status, bool(answer.json()["error"])) == (400, True), body


def test_a_service_that_the_host_is_not_entitled_to_is_refused(story: Story) -> None:
    answer = http("PUT", f"{story.b.api}/v1/agent/service/register", body={"Name": "web", "Port": 80})
    assert answer.status == 403
    assert "not entitled to serve web" in answer.json()["error"]


# ---- answers of the proxy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "service", "status", "flags"),
    [
        (GHOST, "ghost", 503, "UH"),
        (EMPTY, "empty", 503, "UH"),
        (HELD, "held", 403, "UAEX"),
        (DOWN, "down", 503, "UF,URX"),
    ],
)
def test_an_answer_of_the_proxy_names_the_service_and_its_flag_everywhere(
    story: Story, port: int, service: str, status: int, flags: str
) -> None:
    before = samples(story.a, "meshd_requests_total", destination=service, code=str(status), flags=flags)
    answer = wait_for("settled", lambda: (it := http("GET", story.url(port))).status == status and it, 5)
    assert f'service "{service}"' in answer.body.decode()
    assert f"[{flags.split(',')[0]}]" in answer.body.decode()
    row = logged(story.a, reporter="source", destination=service, code=status, flags=flags)
    assert (row["source"], row["method"]) == ("web", "GET")
    wait_for(
        "counted",
        lambda: samples(story.a, "meshd_requests_total", destination=service, code=str(status), flags=flags) > before,
        5,
    )


def test_a_call_that_takes_too_long_is_504(story: Story) -> None:
    story.a.apply({"Kind": "service-resolver", "Name": "api", "RequestTimeout": "200ms"})
    story.api.control(delay=1.0)
    try:
        answer = http("GET", story.url(API_PORT, "/slow"))
    finally:
        story.api.control(delay=0)
        story.a.meshctl("delete", "service-resolver/api")
    assert (answer.status, b'service "api"' in answer.body, b"[UT]" in answer.body) == (504, True, True)
    logged(story.a, reporter="source", path="/slow", code=504, flags="UT")
    assert samples(story.a, "meshd_requests_total", destination="api", code="504", flags="UT") >= 1


def test_a_call_that_leads_nowhere_is_a_warning_in_status(story: Story) -> None:
    said = story.a.meshctl("status", check=False).stdout
    assert "warning: web/a/web-1 calls ghost, of which no instance is known" in said


# ---- documents ----------------------------------------------------------------------------------------------------


def test_a_bad_document_written_to_its_key_changes_nothing_and_is_named_everywhere(story: Story) -> None:
    name, bad = "service-intentions/api", b"Sources:\n- Nam: web\n  Action: deny\n"
    story.put(f"{INTENTION}/api", bad)
    for host in (story.a, story.b):
        wait_for("counted", lambda host=host: samples(host, "meshd_documents_rejected") == 1, 5)
        assert samples(host, "meshd_config_last_reload_successful") == 0
        done = host.meshctl("status", check=False)
        assert done.returncode == 1
        assert f"{name}: REFUSED: last good version kept: line 2" in done.stdout
        assert "did you mean Name?" in done.stdout
        row = wait_for("reported", lambda host=host: story.report(host)["rejected"].get(name), 5)
        assert "Nam" in str(row)
        assert name in story.report(host)["documents"]  # the version that is in force
        wait_for("logged", lambda host=host: '"document refused; the last good version stays"' in host.log.read_text())
    assert story.status(API_PORT) == 200
    assert "rejected" in story.a.meshctl("get").stdout
    story.put(f"{INTENTION}/api", ALLOW)
    for host in (story.a, story.b):
        wait_for("healed", lambda host=host: samples(host, "meshd_config_last_reload_successful") == 1, 5)
        assert host.meshctl("status", check=False).returncode == 0
        wait_for("reported", lambda host=host: not story.report(host)["rejected"], 5)


def test_a_first_document_that_is_bad_denies(story: Story) -> None:
    """Nothing was ever good: an intention that nobody can read may have meant to deny."""
    story.a.apply({"Kind": "mesh", "DefaultIntention": "allow"})
    try:
        wait_for("open by default", lambda: story.status(HELD) == 200, 5)
        story.put(f"{INTENTION}/held", b"Sources: nobody")
        wait_for("denied", lambda: story.status(HELD) == 403, 5)
        done = story.b.meshctl("status", check=False)
        assert "service-intentions/held: REFUSED: no version was ever good: everything is denied" in done.stdout
    finally:
        story.a.meshctl("delete", "service-intentions/held")
        story.a.meshctl("delete", "mesh/mesh")
    wait_for("the default again", lambda: story.status(HELD) == 403, 5)


def test_apply_of_a_bad_document_writes_nothing_and_says_what_is_wrong(story: Story) -> None:
    good = {"Kind": "service-resolver", "Name": "held", "ConnectTimeout": "2s"}
    bad = "Kind: service-router\nName: held\nRoutes:\n- Match: {HTTP: {PathPrefx: /x}}\n"
    text = yaml.safe_dump(good) + "---\n" + bad
    done = story.a.meshctl("apply", "-f", "-", "--wait", stdin=text, check=False)
    assert done.returncode == 1
    assert 'service-router/held 8:Routes[0].Match.HTTP: unknown field "PathPrefx"' in done.stderr
    assert "did you mean PathPrefix?" in done.stderr
    assert story.a.meshctl("get", "service-resolver/held", check=False).returncode == 1  # nor the good one
    kind = story.a.meshctl("apply", "-f", "-", stdin="Kind: service-rooter\nName: x\n", check=False)
    assert (kind.returncode, "did you mean service-router?" in kind.stderr) == (1, True)


def test_a_joined_host_writes_policy_only_for_an_operator(story: Story, tmp_path: Path) -> None:
    """Also where the local API is open to everybody: what a host may is not lent to who calls there."""
    document = yaml.safe_dump({"Kind": "service-resolver", "Name": "held", "ConnectTimeout": "2s"})
    refused = story.b.meshctl("apply", "-f", "-", stdin=document, check=False)
    assert refused.returncode == 1
    assert "node b may not" in refused.stderr
    assert "{" not in refused.stderr  # the registry's refusal in words, not its answer in JSON
    assert "meshctl token create --operator" in refused.stderr
    token = tmp_path / "token"
    story.a.meshctl("token", "create", "--operator", "ada", "--out", str(token))
    story.b.meshctl("--token-file", str(token), "apply", "-f", "-", "--wait", stdin=document)
    key = f"{story.b.api}/v1/kv/mesh/v1/policy/service-resolver/held"
    assert http("GET", f"{key}?raw").status == 200
    secret = {"X-Consul-Token": token.read_text().strip()}
    assert http("DELETE", key, headers=secret).status == 200
    assert http("GET", key).status == 404


# ---- joining ------------------------------------------------------------------------------------------------------


def ends(host: Host, seconds: float = 15.0) -> tuple[int, str]:
    """A host that does not get as far as being ready: its exit code and what it said."""
    process = host.start(ready=False).process
    assert process is not None
    return process.wait(seconds), host.log.read_text()


def test_a_reused_token_is_refused(story: Story) -> None:
    """A refused token is a wrong configuration: meshd says so and ends with 78 instead of asking for ever."""
    host = story.mesh.joining("again", ["api"])
    host.config["Join"]["TokenFile"] = story.b.config["Join"]["TokenFile"]
    host.config["Node"] = "b"
    code, said = ends(host)
    assert (code, "meshd: Join: refused:" in said, "used" in said) == (78, True, True), said
    assert "used" in story.a.log.read_text()


def test_a_token_for_another_host_is_refused(story: Story) -> None:
    host = story.mesh.joining("mine", ["api"])
    host.config["Node"] = "yours"
    code, said = ends(host)
    assert (code, "mine" in said, "yours" in said) == (78, True, True), said


def test_a_token_that_another_authority_signed_is_refused(story: Story, tmp_path: Path) -> None:
    host = story.mesh.joining("stranger", ["api"])
    secret = Path(host.config["Join"]["TokenFile"])
    head, _, _ = secret.read_text().strip().rpartition(".")
    os.chmod(secret, 0o600)
    secret.write_text(f"{head}.{'A' * 86}\n")
    code, said = ends(host)
    assert (code, "meshd: Join: refused:" in said) == (78, True), said
    assert "refused" in story.a.log.read_text()


def test_a_wrong_root_hash_keeps_the_token_at_home(story: Story) -> None:
    host = story.mesh.joining("careful", ["api"])
    host.config["Join"]["RootHash"] = "ab" * 32
    code, said = ends(host)
    assert (code, "meshd: Join: refused:" in said, "root" in said.lower()) == (78, True, True), said
    host.config["Join"]["RootHash"] = story.mesh.root_hash
    host.log.write_text("")
    assert host.start().stop() == 0, host.log.read_text()  # its token was never shown, so it is still good


# ---- configurations -----------------------------------------------------------------------------------------------


def run_meshd(tmp_path: Path, text: str, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "meshd.yaml"
    path.write_text(text)
    command = [str(BIN / "meshd"), "run", "--config", str(path), *more]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=False, env={**os.environ, **env}, cwd=tmp_path
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Node: x\nPorts:\n  Apy: 3\n", "meshd.yaml:3: unknown key Ports.Apy (did you mean Api?)"),
        ("Node: x\nRoles: [registry]\nPorts:\n  Api: 70000\n", "meshd.yaml:4: Ports.Api: "),
        ("Node: x\nLeaseTTL: soon\n", "meshd.yaml:2: LeaseTTL: 'soon' is no duration; write 15s"),
        ("Node: [x\n", "meshd.yaml:2: no YAML: "),
        ("- Node\n", "meshd.yaml:1: the file must be a mapping (for example: Node: a)"),
    ],
)
def test_a_bad_configuration_is_78_with_file_line_and_hint(tmp_path: Path, text: str, said: str) -> None:
    done = run_meshd(tmp_path, text)
    assert (done.returncode, said in done.stderr) == (78, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_a_variable_and_a_flag_are_named(tmp_path: Path) -> None:
    gone = subprocess.run(
        [str(BIN / "meshd"), "run", "--config", "/nowhere.yaml"], capture_output=True, text=True, check=False
    )
    assert (gone.returncode, gone.stderr.strip()) == (
        78,
        "meshd: /nowhere.yaml: cannot be read: No such file or directory",
    )
    variable = run_meshd(tmp_path, "Node: x\n", MESHD_PORTS_APY="3")
    assert (variable.returncode, "did you mean MESHD_PORTS_API?" in variable.stderr) == (78, True)
    flag = run_meshd(tmp_path, "Node: x\n", "--set", "Ports.Api=x")
    assert (flag.returncode, "--set Ports.Api: " in flag.stderr) == (78, True)


def test_a_second_meshd_on_the_same_directories_is_78(story: Story) -> None:
    path = story.b.write_config()
    done = subprocess.run(
        [str(BIN / "meshd"), "run", "--config", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert story.b.process is not None
    assert f"is held by another meshd (pid {story.b.process.pid})" in done.stderr
    assert story.status(API_PORT) == 200


@pytest.mark.parametrize("setting", ["Api", "Inbound"])
def test_a_taken_port_is_78_and_names_its_holder(story: Story, tmp_path: Path, setting: str) -> None:
    """Nobody shares a port silently: not meshd's own, and not the proxy's, which would use SO_REUSEPORT."""
    assert story.b.process is not None
    config = dict(story.a.config) | {"DataDir": str(tmp_path / "data"), "RunDir": str(tmp_path / "run")}
    ports = {name: free_port(story.b.address) for name in ("Api", "Admin", "Inbound", "Peer")}
    config |= {"Loopback": story.b.address, "Advertise": {"Address": story.b.address}, "Node": "z"}
    config |= {"Bind": {"Inbound": story.b.address, "Peer": story.b.address}}
    config["Ports"] = ports | {setting: {"Api": API, "Inbound": 15443}[setting]}
    done = subprocess.run(
        [str(BIN / "meshctl"), "ca", "init", "--data-dir", config["DataDir"], "--node", "z"],
        capture_output=True, check=True,
    )  # fmt: skip
    done = run_meshd(tmp_path, yaml.safe_dump(config))
    line = next(line for line in done.stderr.splitlines() if line.startswith("meshd: "))
    holder = story.b.process.pid if setting == "Api" else story.b.proxy_pids()[0]
    assert (done.returncode, f"Ports.{setting}" in line, f"(pid {holder})" in line) == (78, True, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_proxy_is_one_clear_line(story: Story, tmp_path: Path) -> None:
    config = dict(story.a.config) | {"DataDir": str(tmp_path / "data"), "RunDir": str(tmp_path / "run")}
    done = run_meshd(tmp_path, yaml.safe_dump(config), MESHD_PROXY_BIN="/nowhere/meshd-proxy")
    assert (done.returncode, done.stderr.strip()) == (
        78,
        "meshd: Proxy.Binary: /nowhere/meshd-proxy cannot be executed",
    )


def test_nobody_there_is_75_and_says_where_it_looked() -> None:
    for api in ("/nowhere/api.sock", "http://127.0.0.1:1"):
        done = subprocess.run(
            [str(BIN / "meshctl"), "--api", api, "status"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, api in done.stderr, "hint:" in done.stderr) == (75, True, True)


def test_an_authority_that_is_away_is_waited_for(story: Story) -> None:
    """Not an error of the configuration: the host says that it waits, and a signal ends it cleanly."""
    host = story.mesh.joining("patient", ["api"])
    host.config["Join"]["Address"] = f"{story.mesh.net}.250:{PEER}"
    process: Process | None = host.start(ready=False).process
    assert process is not None
    wait_for("it says so", lambda: "no authority answers; this host waits to join" in host.log.read_text(), 10)
    process.signal(signal.SIGTERM)
    assert process.wait(5) == 0
