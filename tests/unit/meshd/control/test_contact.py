"""One sign of life wakes those who wait now, and only those."""

import asyncio

from meshd.control.contact import Contact


async def test_contact_ends_all_pauses() -> None:
    contact = Contact()
    waiting = [asyncio.get_running_loop().create_task(contact.pause(3600)) for _ in range(3)]
    await asyncio.sleep(0)
    contact.made()
    done, pending = await asyncio.wait(waiting, timeout=5)
    assert (len(done), len(pending)) == (3, 0)


async def test_a_pause_ends_by_itself_and_an_old_contact_ends_no_new_pause() -> None:
    contact = Contact()
    contact.made()
    began = asyncio.get_running_loop().time()
    await contact.pause(0.02)
    assert asyncio.get_running_loop().time() - began >= 0.015
