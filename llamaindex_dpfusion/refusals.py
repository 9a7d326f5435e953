"""Errors that LlamaIndex does not swallow."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from dpfusion_core.errors import DPFusionError, RefusedError, raise_bare

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def not_swallowed() -> Iterator[None]:
    """Raise errors of ours that are ``ValueError`` as :class:`RefusedError`."""
    try:
        yield
    except DPFusionError as error:
        raise_bare(RefusedError(error) if isinstance(error, ValueError) else error)


def anot_swallowed(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a coroutine function as :func:`not_swallowed` decorates a function."""

    @wraps(method)
    async def loud(*args: P.args, **kwargs: P.kwargs) -> T:
        with not_swallowed():
            return await method(*args, **kwargs)

    return loud
