"""Work that blocks, done in worker threads, so that an event loop goes on."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

_Item = TypeVar("_Item")


async def in_threads(items: Generator[_Item, None, None]) -> AsyncGenerator[_Item, None]:
    """Advance an iterator in worker threads; close it when the consumer leaves, however it leaves."""
    step: asyncio.Future[_Item | None] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, items, None))
            # Shielded: a cancelled consumer must not leave a thread inside the generator.
            item = await asyncio.shield(step)
            if item is None:
                return
            yield item
    finally:
        if step is not None and not step.done():
            await asyncio.wait({step})
            step.exception()  # looked at, so that asyncio does not log it
        items.close()
