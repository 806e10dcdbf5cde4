"""What to send: a run's parameters, and the times at which an open loop sends."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of GETs over `conns` keep-alive connections.

    `rate` per second departs on schedule whatever the answers do (open loop); None: each connection sends as soon as
    its last answer is in (closed loop). Ends after `count` requests or `seconds`, whichever comes first.
    """

    url: str
    rate: float | None = None
    conns: int = 8
    count: int | None = None
    seconds: float | None = None
    timeout: float = 10.0  # seconds, connecting included
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.count is None and self.seconds is None:
            raise ValueError("a load needs an end: count or seconds")
        if self.conns < 1 or (self.rate is not None and self.rate <= 0):
            raise ValueError("conns and rate must be positive")
        if urlsplit(self.url).scheme != "http" or not urlsplit(self.url).hostname:
            raise ValueError(f"not a http:// address: {self.url!r}")

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def head(self) -> bytes:
        """The request as it is sent, the same bytes each time."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        names = {name.lower() for name, _ in self.headers}
        host = () if "host" in names else (("Host", parts.netloc),)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (*host, *self.headers))
        return f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()

    def departure(self, index: int) -> float | None:
        """Seconds after the start at which request `index` leaves (closed loop: 0), None: after the end."""
        due = index / self.rate if self.rate is not None else 0.0
        over = (self.count is not None and index >= self.count) or (self.seconds is not None and due >= self.seconds)
        return None if over else due
