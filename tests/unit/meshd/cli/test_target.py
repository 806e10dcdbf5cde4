from pathlib import Path

import pytest

from meshd.cli.target import Away, Refused, Target, Unreachable, refusal
from tests.fakes.mesh_api import MeshApi


def test_the_token_travels_in_a_header_only(api: MeshApi, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    api.answer("GET", "/v1/mesh/certs", [])
    Target.find(api.url, str(file)).read("/v1/mesh/certs", list[int])
    assert api.tokens == ["secret"]
    assert all("secret" not in path for _, path, _ in api.seen)


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="nowhere"):
        Target.find(None, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"{}", b"3"])
def test_any_error_body_becomes_a_message(body: bytes) -> None:
    error = refusal(400, body)
    assert isinstance(error, Refused)
    assert error.error


def test_gateway_errors_are_unreachable() -> None:
    away = refusal(503, b'{"error": "no registry"}')
    assert isinstance(away, Away)
    assert "meshctl status" in away.hint
