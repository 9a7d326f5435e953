"""Work that blocks, done in worker threads: so that an event loop goes on, or that it may be given up."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TypeVar

_Item = TypeVar("_Item")
_T = TypeVar("_T")


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


def in_time(work: Callable[[], _T], timeout: float, name: str) -> _T:
    """Return what work returns, or raise what it raises, within so many seconds.

    It cannot be interrupted: what is late goes on in a thread that nobody waits for.

    Args:
        work: The work. The caller's context goes with it: hosts keep their callbacks and settings there.
        timeout: Seconds.
        name: Of the thread.

    Raises:
        TimeoutError: If it was not done in time.

    Example:
        >>> in_time(lambda: 1 + 1, timeout=60.0, name="sum")
        2
    """
    done: list[_T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as raised:  # noqa: BLE001  raised again below, in the thread that waits
            error.append(raised)

    # A daemon: work that never returns must not keep the process alive.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    thread.join(timeout)
    if error:
        raise error[0]
    if not done:
        raise TimeoutError
    return done[0]
