"""Errors of the core as LlamaIndex's users need them: not swallowed, and with the advice that helps here."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from dpfusion_core.errors import BudgetExhaustedError, DPFusionError, RefusedError, raise_bare
from dpfusion_core.messages import DEFAULT_UNIT

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


@contextmanager
def with_advice() -> Iterator[None]:
    """Say of an exhausted budget of the unnamed unit whose text that is in LlamaIndex."""
    try:
        yield
    except BudgetExhaustedError as error:
        raise_bare(_advised(error))


def _advised(error: BudgetExhaustedError) -> BudgetExhaustedError:
    if DEFAULT_UNIT not in error.units:
        return error
    return BudgetExhaustedError(
        f"{error} The unit {DEFAULT_UNIT!r} is that of private text which names none, of the whole app: documents "
        "without DPFusionNodePostprocessor, bare prompts, conversations that a chat engine condenses, answers that "
        "are refined. Name one for each session with DPFusionLLM(unit=...), spare condensing with "
        "skip_condense=True, and put arguments that are public, such as existing_answer, into public_arguments.",
        units=error.units,
        largest_share=error.largest_share,
    )
