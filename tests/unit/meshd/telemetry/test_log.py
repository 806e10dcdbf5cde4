"""Logs: one JSON object per line, never a secret."""

import io
import json
import logging

import pytest

from meshd.telemetry.log import Bridge, Log, safe


def test_lines_are_json_with_fields() -> None:
    out = io.StringIO()
    Log(out, lambda: 1.23456).bind(node="a").info("listening", port=15500, text='a"\n\x00b')
    assert json.loads(out.getvalue()) == {
        "at": 1.235,
        "level": "info",
        "event": "listening",
        "node": "a",
        "port": 15500,
        "text": 'a"\n\x00b',
    }
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize("name", ["token", "join_token", "Secret", "private_key", "authorization"])
def test_secrets_by_name_are_hidden(name: str) -> None:
    assert safe(name, "s3cret") == "[hidden]"
    assert "s3cret" not in str(safe("outer", {name: "s3cret"}))


def test_keys_by_content_are_hidden() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----"
    assert "MIG" not in str(safe("detail", f"before {pem} after"))
    assert "MIG" not in str(safe("detail", "-----BEGIN EC PRIVATE KEY-----\nMIG"))


def test_text_is_cut() -> None:
    assert len(str(safe("detail", "x" * 10_000))) == 4000


def test_library_records_come_through() -> None:
    out = io.StringIO()
    logger = logging.Logger("aiohttp.server")
    logger.addHandler(Bridge(Log(out, lambda: 0.0)))
    logger.error("went %s", "wrong")
    logger.info("chatter")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["went wrong"]


def test_fields_of_library_records_are_kept() -> None:
    out = io.StringIO()
    logger = logging.Logger("registry.ca")
    logger.addHandler(Bridge(Log(out, lambda: 0.0)))
    logger.warning("refused", extra={"who": "anonymous 10.0.0.9", "reason": "used before", "token": "mesh1.x"})
    line = json.loads(out.getvalue())
    assert (line["who"], line["reason"], line["source"]) == ("anonymous 10.0.0.9", "used before", "registry.ca")
    assert line["token"] == "[hidden]"


def test_an_exception_keeps_its_trace() -> None:
    out = io.StringIO()
    try:
        raise ValueError("why")
    except ValueError as error:
        Log(out, lambda: 0.0).error("task crashed", exc_info=error)
    assert "ValueError: why" in json.loads(out.getvalue())["trace"]


def test_a_closed_stream_does_not_stop_anything() -> None:
    out = io.StringIO()
    out.close()
    Log(out, lambda: 0.0).info("listening")
