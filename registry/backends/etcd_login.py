"""Logging in at etcd: a token for name and password, fetched once, again when it is refused.

https://etcd.io/docs/v3.4/op-guide/authentication/ - tokens end after 5 min without use, and with a server's restart.
"""

import asyncio
from collections.abc import Callable

from registry.backends import etcd_errors
from registry.backends.etcd_links import Links, Metadata, Method, Refused
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import RegistryError, Unavailable

AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse, safe=True)


class Login:
    """The caller's identity at etcd. `secret` gives `name:password`, a token made elsewhere, or None: none.

    It is asked at each log-in, so what is on disk may be replaced while we run.
    """

    def __init__(self, links: Links, secret: Callable[[], str | None]) -> None:
        self._links = links
        self._secret = secret
        self._token: str | None = None
        self._open = False  # the server knows no authentication, or the client's certificate says who we are
        self._one = asyncio.Lock()
        self._doubts = links.doubts
        self.logins = 0

    async def metadata(self) -> Metadata:
        """What a request carries. Raises Denied, Unavailable."""
        if self._doubts != self._links.doubts:
            self._doubts, self._token, self._open = self._links.doubts, None, False
        if self._token is None and not self._open:
            await self.renew(None)
        return (("token", self._token),) if self._token else ()

    @property
    def token(self) -> str | None:
        return self._token

    async def renew(self, refused: str | None) -> bool:
        """Log in unless somebody did so since `refused` was sent; False: there is nothing to log in with."""
        async with self._one:
            if self._token != refused or (self._open and refused is not None):
                return True
            secret = await self._read()
            name, colon, password = secret.partition(":")
            if not secret:
                self._token, self._open = None, True
                return False
            if not colon:
                again, self._token = secret != refused, secret
                return again
            try:
                answer = await self._links.call(AUTHENTICATE, pb.AuthenticateRequest(name=name, password=password))
            except Refused as error:
                raise error.error from error
            except RegistryError as error:
                if etcd_errors.NO_AUTH not in str(error):
                    raise
                again, self._open = not self._open, True
                return again
            self._token, self._open = answer.token, False
            self.logins += 1
            return True

    async def _read(self) -> str:
        try:
            return (await asyncio.to_thread(self._secret) or "").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"token file of the registry: {error}") from error
