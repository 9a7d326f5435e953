"""Patience with a PostgreSQL server: it has an end, on the client's side, whatever the server does."""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

_GRACE = 1.0  # seconds in which the server itself may say that it waited too long for a lock


class Patience:
    """Makes connections that wait for an answer for a limited time.

    A server that stands still accepts connections and never answers, and its own time limits stand still
    with it. Here the wait for every statement ends; the connection is closed then, for what the server may
    still say on it is about something else. Nothing is done in other threads.

    Args:
        timeout: How long to wait for a statement and for a connection, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._limit = timeout + _GRACE
        self._timeout = timeout
        self._local = threading.local()

    @contextmanager
    def in_all(self) -> Iterator[None]:
        """Limit everything that this thread does meanwhile, connecting included, to one such time."""
        before = getattr(self._local, "until", math.inf)
        self._local.until = min(before, time.monotonic() + self._limit)
        try:
            yield
        finally:
            self._local.until = before

    def connect(self, *args: Any, **options: Any) -> Any:
        """Connect, as ``psycopg.connect`` does."""
        left = self._until() - time.monotonic()
        if left <= 0.0:
            raise self._no_answer()
        options["connect_timeout"] = max(2, math.ceil(min(left, self._timeout)))
        return _connection_class(self._until, self._no_answer).connect(*args, **options)

    def _until(self) -> float:
        return min(time.monotonic() + self._limit, getattr(self._local, "until", math.inf))

    def _no_answer(self) -> Exception:
        import psycopg

        return psycopg.OperationalError(f"no answer within {self._timeout:g} s")


def _connection_class(until: Callable[[], float], no_answer: Callable[[], Exception]) -> Any:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """One whose every wait for the server has an end."""

        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
            try:
                return super().wait(_limited(gen, until()), *args, **options)
            except TimeoutError:
                self.close()
            raise no_answer()

    return Connection


def _limited(gen: Generator[Any, Any, Any], until: float) -> Generator[Any, Any, Any]:
    """Give what a generator gives, until it is asked too late with nothing new from the server."""
    try:
        state = next(gen)
        while True:
            ready = yield state
            if not ready and time.monotonic() > until:
                gen.close()
                raise TimeoutError
            state = gen.send(ready)
    except StopIteration as done:
        return done.value
