"""What can go wrong at the registry, in terms a caller can act on.

Raise the most specific one and name who was asked, what for and where. `registry.api` maps them to HTTP once
and `meshd.cli` to exit codes once.
"""


class RegistryError(Exception):
    """Base of all of them; never raised itself."""


class Unavailable(RegistryError):
    """Nobody answered, or not in time. A write that ends like this may still have been applied."""


class Conflict(RegistryError):
    """A compare-and-set lost: the key is at another version than expected (or exists, for create-only)."""


class NotFound(RegistryError):
    """The thing that the call is about does not exist (a lease to renew, an instance to withdraw)."""


class Denied(RegistryError):
    """The caller may not do this. Retrying without other rights is useless."""


class Corrupt(RegistryError):
    """Stored bytes are not what their key promises."""


class TooLarge(RegistryError):
    """A limit of the store: value, key or transaction size."""
