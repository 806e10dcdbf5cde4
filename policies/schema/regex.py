"""Is a regular expression one that the proxy's engine takes? Decided without compiling or running it.

The proxy uses Rust's `regex` crate, which is linear in time and has neither look-around nor backreferences. Accepted is
what that crate and RE2 (https://github.com/google/re2/wiki/Syntax) both read in the same way: anything else is refused
here, where its author sees it, and not by a proxy later.
"""

from dataclasses import dataclass

MAX_LENGTH = 512
MAX_GROUPS = 16  # nested
MAX_REPEAT = 1000  # RE2's limit, also for the product of nested counts
MAX_STATES = 10_000  # of the compiled program, roughly: 1 MiB, the size limit that the proxy gives its engine

# States of one copy, measured at that limit: `\w` is hundreds of ranges of Unicode, a letter is one.
_CLASSES = {"w": 450, "W": 450, "d": 50, "D": 110, "s": 16, "S": 16}
_SET = 16
_ASSERTIONS = "bBAz"
_CONTROL = "nrtfv"
_PUNCTUATION = set("\\.+*?()|[]{}^$#&-~/!\"%',:;=@_` ")
_FLAGS = set("imsU-")
_POSIX = ("alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper")


class Bad(Exception):
    """Internal: the reason, with the offset where it was seen."""


@dataclass
class _Reader:
    """Recursive descent, one character at a time; every method returns the states that its part needs."""

    text: str
    at: int = 0
    depth: int = 0

    def peek(self, n: int = 1) -> str:
        return self.text[self.at : self.at + n]

    def take(self) -> str:
        if self.at >= len(self.text):
            raise Bad("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def alternatives(self) -> int:
        states = self.sequence()
        while self.peek() == "|":
            self.take()
            states += self.sequence()
        if states > MAX_STATES:
            raise Bad("is too large")
        return states

    def sequence(self) -> int:
        states = 1
        while self.at < len(self.text) and self.peek() not in ("|", ")"):
            repeatable, cost = self.atom()
            states += self.repeated(repeatable, cost)
            if states > MAX_STATES:
                raise Bad("is too large once its repetitions are written out")
        return states

    def repeated(self, repeatable: bool, cost: int) -> int:
        if self.peek() not in ("*", "+", "?", "{") or self.at >= len(self.text):
            return cost
        if not repeatable:
            raise Bad(f"{self.peek()!r} has nothing to repeat")
        times = self.count() if self.take() == "{" else 1
        if self.peek() == "?":
            self.take()
        if self.peek() and self.peek() in "*+?{":
            raise Bad("possessive or repeated quantifiers are not supported")
        return cost * max(times, 1)

    def count(self) -> int:
        low = self.number()
        high: int | None = low
        if self.peek() == ",":
            self.take()
            high = self.number() if self.peek() != "}" else None
        if self.take() != "}":
            raise Bad("a repetition is {n}, {n,} or {n,m}")
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise Bad(f"a repetition counts up to {MAX_REPEAT}, the smaller number first")
        return max(low, high or 0)

    def number(self) -> int:
        digits = ""
        while self.peek() and self.peek() in "0123456789" and len(digits) < 6:
            digits += self.take()
        if not digits:
            raise Bad("a repetition is {n}, {n,} or {n,m}; write \\{ for the character")
        return int(digits)

    def atom(self) -> tuple[bool, int]:
        char = self.take()
        match char:
            case "(":
                return True, self.group()
            case "[":
                return True, self.bracket()
            case "\\":
                return self.escape()
            case "^" | "$":
                return False, 1
            case "*" | "+" | "?" | "{":
                raise Bad(f"{char!r} has nothing to repeat; write \\{char} for the character")
            case ".":
                return True, _SET
            case _:
                return True, 1

    def group(self) -> int:
        self.depth += 1
        if self.depth > MAX_GROUPS:
            raise Bad(f"groups nest deeper than {MAX_GROUPS}")
        if self.peek() == "?":
            self.take()
            self.prefix()
        states = self.alternatives()
        if self.peek() != ")":
            raise Bad("a group is not closed")
        self.take()
        self.depth -= 1
        return states

    def prefix(self) -> None:
        """After `(?`: only flags and non-capturing groups; the rest is what a linear engine cannot do."""
        if self.peek() in ("=", "!") or self.peek(2) in ("<=", "<!"):
            raise Bad("look-around is not supported")
        flags = ""
        while self.peek() and self.peek() in _FLAGS:
            flags += self.take()
        if self.peek() != ":" or flags.endswith("-") or flags.count("-") > 1 or _repeats(flags):
            raise Bad("of the groups that begin with (? only (?:...) and flags as in (?i:...) are supported")
        self.take()

    def escape(self) -> tuple[bool, int]:
        char = self.take()
        if char in _CLASSES:
            return True, _CLASSES[char]
        if char in _ASSERTIONS:
            return False, 1
        if char in _CONTROL or char in _PUNCTUATION:
            return True, 1
        if char.isdigit() or char in "kg":
            raise Bad("backreferences are not supported")
        raise Bad(f"the escape \\{char} is not supported")

    def bracket(self) -> int:
        if self.peek() == "^":
            self.take()
        first, states = True, _SET
        while first or self.peek() != "]":
            start = self.at
            low = self.member()
            if low is None:
                states += _CLASSES.get(self.text[start + 1], 0)
            if self.peek() == "-" and self.peek(2) not in ("-]", "--"):
                self.take()
                high = self.member()
                if low is None or high is None or high < low:
                    raise Bad("a range goes from one character to a later one")
            first = False
        self.take()
        return states

    def member(self) -> str | None:
        """One member of a class: its character, None when it stands for several."""
        if self.peek(2) in ("&&", "--", "~~"):
            raise Bad("set operations in a class are not supported; write \\ before the character")
        char = self.take()
        if char == "[":
            self.posix()
            return None
        if char != "\\":
            return char
        escaped = self.take()
        if escaped in _CLASSES:
            return None
        if escaped in _CONTROL or escaped in _PUNCTUATION:
            return {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}.get(escaped, escaped)
        raise Bad(f"the escape \\{escaped} is not supported in a class")

    def posix(self) -> None:
        end = self.text.find(":]", self.at)
        if self.peek() != ":" or end < 0 or self.text[self.at + 1 : end].removeprefix("^") not in _POSIX:
            raise Bad("write \\[ for the character in a class")
        self.at = end + 2


def fault(pattern: str) -> str | None:
    """Why the proxy's engine would not take `pattern`, or None."""
    if len(pattern) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    reader = _Reader(pattern)
    try:
        reader.alternatives()
        if reader.at < len(pattern):
            raise Bad("a ) closes nothing")
    except Bad as bad:
        return f"is no expression that the proxy takes: {bad} (at character {reader.at})"
    return None


def _repeats(flags: str) -> bool:
    letters = flags.replace("-", "")
    return len(set(letters)) != len(letters)
