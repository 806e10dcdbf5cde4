"""Fills a store as fast as it takes it: keys in transactions, instances as each store holds them."""

import asyncio
import base64
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import grpc.aio

from registry import keys, values
from registry.backends.consul_service import catalog_body
from registry.backends.etcd_client import TXN
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.model import Instance

ETCD_BATCH, CONSUL_BATCH = 100, 64  # operations of one transaction
AT_ONCE = 16

Keys = Sequence[tuple[str, bytes]]


class EtcdWriter:
    """Use as a context manager."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.aio.insecure_channel(url.removeprefix("http://"))
        self._txn: Any = self._channel.unary_unary(
            TXN.path,
            request_serializer=pb.TxnRequest.SerializeToString,
            response_deserializer=pb.TxnResponse.FromString,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def put_all(self, wanted: Keys) -> None:
        for start in range(0, len(wanted), ETCD_BATCH):
            puts = [pb.PutRequest(key=key.encode(), value=value) for key, value in wanted[start : start + ETCD_BATCH]]
            await self._txn(pb.TxnRequest(success=[pb.RequestOp(request_put=put) for put in puts]))

    async def register_all(self, instances: Sequence[Instance]) -> None:
        await self.put_all([(keys.instance(one.service, one.node, one.id), values.write(one)) for one in instances])


class ConsulWriter:
    """Use as a context manager. Instances go to the native catalogue."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def put_all(self, wanted: Keys) -> None:
        for start in range(0, len(wanted), CONSUL_BATCH):
            some = wanted[start : start + CONSUL_BATCH]
            sets = [{"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode()} for key, value in some]
            await self._call("/v1/txn", [{"KV": one} for one in sets])

    async def register_all(self, instances: Sequence[Instance]) -> None:
        for start in range(0, len(instances), AT_ONCE):
            some = instances[start : start + AT_ONCE]
            bodies = [catalog_body(one, one.inbound.address if one.inbound else one.address) for one in some]
            await asyncio.gather(*(self._call("/v1/catalog/register", body) for body in bodies))

    async def _call(self, path: str, body: object) -> None:
        async with self._session.put(path, json=body) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{path}: status {answer.status}: {(await answer.text())[:300]}")


def writer(kind: str, url: str) -> EtcdWriter | ConsulWriter:
    return EtcdWriter(url) if kind == "etcd" else ConsulWriter(url)
