"""What every section of the host's configuration is made of."""

import msgspec

Finding = tuple[str, str, str]  # the setting's path, what is wrong with it, and what would be right


class Seconds(float):
    """A duration; written "1.5s", "200ms", "5m", "1h" or as a plain number of seconds."""


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """Base of every section."""
