"""Structured logs: one JSON object per line on stderr, never a secret.

Fields named like secrets are replaced, texts are cut, so that a slip in a caller does not publish a key. Records of
libraries (aiohttp, asyncio) come through the same door.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

SECRET = re.compile(r"(?i)(^|_)(token|secret|password|private_key|key_pem|authorization)$")
PEM_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
TEXT_LIMIT = 4000  # characters of one field
# What every record has; the rest is what its writer added with `extra`.
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Log:
    """`log.info("listening", port=15500)`. `bind` makes a child that carries fields along."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], fields: dict[str, object] | None = None) -> None:
        self._stream = stream
        self._clock = clock
        self._fields = fields or {}

    def bind(self, **fields: object) -> "Log":
        return Log(self._stream, self._clock, self._fields | fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        line: dict[str, object] = {"at": round(self._clock(), 3), "level": level, "event": event}
        for name, value in (self._fields | fields).items():
            if name == "exc_info":
                if isinstance(value, BaseException):
                    line["trace"] = safe("trace", "".join(traceback.format_exception(value)))
            else:
                line[name] = safe(name, value)
        try:
            # One write per line: lines of several processes on one stderr stay whole.
            self._stream.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a full disk or a closed pipe must not stop the mesh


def safe(name: str, value: object) -> object:
    """The value as it may be shown."""
    if SECRET.search(name):
        return "[hidden]"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return PEM_KEY.sub("[hidden]", value)[:TEXT_LIMIT]
    if isinstance(value, int | float | bool) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [safe(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): safe(str(key), item) for key, item in value.items()}
    return PEM_KEY.sub("[hidden]", str(value))[:TEXT_LIMIT]


class Bridge(logging.Handler):
    """Takes the records of libraries into the same stream; below warning they are dropped."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        extra = {name: value for name, value in record.__dict__.items() if name not in STANDARD}
        exception = record.exc_info[1] if record.exc_info else None
        write(record.getMessage(), **(extra | {"source": record.name, "exc_info": exception}))


def install(clock: Callable[[], float], stream: TextIO | None = None, **fields: object) -> Log:
    """The process's log; libraries' loggers lead to it."""
    log = Log(stream or sys.stderr, clock, dict(fields))
    logging.basicConfig(level=logging.WARNING, handlers=[Bridge(log)], force=True)
    return log
