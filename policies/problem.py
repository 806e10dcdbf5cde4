"""What is wrong with a document, said so that its author can mend it."""

import difflib
from collections.abc import Iterable

import msgspec

MAX_SHOWN = 128  # characters of somebody else's text that a message repeats


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, order=True):
    """One fault. `line` and `column` count from 1, 0: not known. `path` is inside the document (`Routes[0].Match`).

    `file` is the key or file that was read, empty: see kind and name. `hint` says what to write instead.
    """

    kind: str
    name: str
    reason: str
    path: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = self.file or f"{self.kind}/{self.name}"
        if self.line:
            place += f":{self.line}" + (f":{self.column}" if self.column else "")
        path = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{path} {self.reason}{hint}"


def shown(text: str) -> str:
    """Somebody else's text in quotes, cut, on one line, without control characters."""
    return '"' + printable(text).replace('"', '\\"') + '"'


def printable(text: str) -> str:
    """The same without the quotes: for names that are nearly always harmless."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that `word` probably means, or "". Case and `_` do not count."""
    if len(word) > MAX_SHOWN:  # no typing error is this long, and the comparison is quadratic
        return ""
    names = {plain(name): name for name in sorted(known)}
    close = difflib.get_close_matches(plain(word), names, n=1, cutoff=0.6)
    return names[close[0]] if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name; the whole list when it is short and nothing is near."""
    names = sorted(known)
    close = nearest(word, names)
    if close:
        return f"did you mean {close}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def plain(name: str) -> str:
    """CamelCase and snake_case spellings of one name become equal, as Consul's reader treats them."""
    return name.replace("_", "").lower()
