"""Several waits side by side."""

import asyncio

import pytest

from registry.race import first


async def test_parts_end_with_the_first_that_ends() -> None:
    ended: list[str] = []

    async def quick() -> str:
        return "quick"

    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("slow")
        return "never"

    async def broken() -> str:
        raise ValueError("broken")

    assert await first(slow, quick) == "quick"
    with pytest.raises(ValueError, match="broken"):
        await first(slow, broken)
    assert ended == ["slow", "slow"]
