"""Errors: one tree, and nothing of what others raised hangs on them."""

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import (
    ConstitutionTagger,
    FunctionTagger,
    FusionEngine,
    Message,
    Narrowing,
    PrivacyBudget,
    PrivacyLedger,
    Segment,
    TransformersBackend,
)
from dpfusion_core.errors import (
    BackendError,
    DPFusionError,
    LedgerError,
    PrivacyParameterError,
    RefusedError,
    TaggerError,
    ViewError,
    error_name,
    errors_as,
    raise_bare,
)
from dpfusion_core.ledger.keys import read_file
from dpfusion_core.ledger.place import parse_url
from dpfusion_core.privacy import RenyiLoss
from dpfusion_core.tagging.narrowing import find_spans
from tests.walking import assert_bare

SECRET = "".join(["Jane", " ", "Roe"])


class Panic(BaseException):
    """Stands for what Rust code raises."""


Panic.__module__ = "pyo3_runtime"


def hostile() -> None:
    """Raise an error that says the secret in every way that an error can."""
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raised = ValueError(SECRET)
        raised.add_note(SECRET)
        raise raised from error


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), MemoryError(SECRET), OSError(2, SECRET), Panic(SECRET)]
)
def test_a_foreign_error_leaves_nothing_but_its_class(error: BaseException) -> None:
    seam = errors_as(BackendError, "The model failed ({error}).")
    with pytest.raises(BackendError, match=type(error).__name__) as caught, seam:
        raise error
    assert_bare(caught.value, SECRET)


def test_an_error_behind_which_others_hang_leaves_nothing() -> None:
    with pytest.raises(TaggerError) as caught, errors_as(TaggerError, "It failed."):
        hostile()
    assert_bare(caught.value, SECRET)


def test_nothing_hangs_on_an_error_that_is_raised_while_another_is_handled() -> None:
    def handle() -> None:
        try:
            hostile()
        except ValueError:
            with errors_as(ViewError, "The template failed."):
                hostile()

    with pytest.raises(ViewError) as caught:
        handle()
    assert_bare(caught.value, SECRET)


def test_raise_bare_inside_of_a_handler() -> None:
    def handle() -> None:
        try:
            hostile()
        except ValueError:
            raise_bare(ViewError("The template failed."))

    with pytest.raises(ViewError) as caught:
        handle()
    assert_bare(caught.value, SECRET)


async def test_it_stands_around_await() -> None:
    async def tool() -> None:
        await asyncio.sleep(0)
        hostile()

    with pytest.raises(BackendError) as caught, errors_as(BackendError, "The tool failed."):
        await tool()
    assert_bare(caught.value, SECRET)


def test_errors_of_ours_pass_without_what_they_were_raised_from() -> None:
    def tag() -> None:
        try:
            hostile()
        except ValueError as error:
            raise TaggerError("The service does not answer.") from error

    with pytest.raises(TaggerError, match="does not answer") as caught, errors_as(BackendError, "Never."):
        tag()
    assert_bare(caught.value, SECRET)


def test_an_error_of_ours_that_does_not_pass_keeps_its_message() -> None:
    seam = errors_as(TaggerError, "The tagger failed ({error}).", ours=TaggerError)
    with pytest.raises(TaggerError, match=r"failed \(ViewError: Too long\.\)") as caught, seam:
        raise ViewError("Too long.")
    assert_bare(caught.value, SECRET)


@pytest.mark.parametrize(
    "kind",
    [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError],
    ids=lambda kind: kind.__name__,
)
def test_what_ends_a_task_or_the_program_passes(kind: type[BaseException]) -> None:
    with pytest.raises(kind), errors_as(BackendError, "Never."):
        raise kind()


def test_errors_of_other_types_pass_where_types_are_named() -> None:
    with pytest.raises(KeyError), errors_as(BackendError, "Never.", only=ValueError):
        raise KeyError("key")


def test_the_name_of_a_class_is_withheld_where_it_could_be_text() -> None:
    for name in (SECRET, "Jane\u0130", "J" * 61):
        assert error_name(type(name, (Exception,), {})()) == "Exception"


def test_a_refused_error_is_pickled_with_the_error_that_it_stands_for() -> None:
    copied = pickle.loads(pickle.dumps(RefusedError(ViewError("No."))))
    assert isinstance(copied.error, ViewError)
    assert str(copied) == "No."


def raises(*_args: Any, **_kwargs: Any) -> Any:
    hostile()


PRIVATE = [Message("user", SECRET, is_private=True), Message("user", "Who?")]
COST: dict[str, Any] = {"alpha": 2.0, "beta": 0.01, "max_tokens": 2}
SURROGATE = SECRET + "\ud800"


def engine(**changes: Any) -> FusionEngine:
    return FusionEngine(
        changes.pop("backend", TransformersBackend.from_pretrained("dpfusion-tiny")), **changes
    )


def with_tokenizer(**methods: Any) -> Any:
    """Return the embedded model behind a tokenizer of which some methods fail."""
    backend = TransformersBackend.from_pretrained("dpfusion-tiny")
    kind = type(backend.tokenizer)
    backend.tokenizer.__class__ = type("Tokenizer", (kind,), methods)
    return engine(backend=backend)


def with_model(error: BaseException) -> FusionEngine:
    backend = TransformersBackend.from_pretrained("dpfusion-tiny")

    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    backend._model.forward = fail
    return engine(backend=backend)


class Unreachable:
    """A chat model that fails with the text that it was asked about."""

    def generate(self, messages: Any, **_options: Any) -> Any:
        raise ConnectionError(messages[0].content)


def narrowed(tagger: Any, **how: Any) -> Callable[[], object]:
    return lambda: Narrowing(tagger, on_error="raise", **how)(PRIVATE)


def name_unit(_span: Any, text: str) -> str:
    raise KeyError(text)


def misuse(text: str) -> list[str]:
    try:
        raise KeyError(text)
    except KeyError as error:
        raise TaggerError("Not found.") from error


def charge(note: dict[str, Any]) -> None:
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0))
    loss = RenyiLoss(4.0, lambda order: 0.1)
    ledger.reserve({"a": loss}, order=4.0, note=note)


ATTACKS: dict[str, tuple[type[DPFusionError], Callable[[], object]]] = {
    "lone surrogate in a message": (ViewError, lambda: Message("user", SURROGATE)),
    "lone surrogate in a segment": (ViewError, lambda: Segment(SURROGATE, is_private=True)),
    "lone surrogate to tag": (
        TaggerError,
        lambda: find_spans(FunctionTagger(lambda text: []), SURROGATE),
    ),
    "template that raises": (
        ViewError,
        lambda: with_tokenizer(apply_chat_template=raises).generate(PRIVATE, **COST),
    ),
    "tokenizer that cannot decode": (
        ViewError,
        lambda: with_tokenizer(decode=raises).generate(PRIVATE, **COST),
    ),
    "placeholder that raises": (
        ViewError,
        lambda: engine(placeholder=lambda segment: {}[segment.text]).generate(PRIVATE, **COST),
    ),
    "logits processor that raises": (
        BackendError,
        lambda: engine().generate(PRIVATE, **COST, logits_processors=[raises]),
    ),
    "tokenizer that raises": (ViewError, lambda: with_tokenizer(__call__=raises).generate(PRIVATE, **COST)),
    "model that raises ValueError": (
        BackendError,
        lambda: with_model(ValueError(SECRET)).generate(PRIVATE, **COST),
    ),
    "tagger that raises": (TaggerError, narrowed(FunctionTagger(raises))),
    "tagger that raises in time": (TaggerError, narrowed(FunctionTagger(raises), timeout=5.0)),
    "function of units that raises": (
        TaggerError,
        narrowed(FunctionTagger(lambda text: [text]), units=name_unit),
    ),
    "tagger that is an error of ours with a cause": (TaggerError, narrowed(FunctionTagger(misuse))),
    "note that JSON does not know": (PrivacyParameterError, lambda: charge({"text": {SECRET}})),
    "URL with a password": (PrivacyParameterError, lambda: parse_url(f"{SECRET}://{SECRET}@host")),
    "key of a ledger that cannot be read": (LedgerError, lambda: read_file(Path("/"))),
    "model of a tagger that raises": (TaggerError, narrowed(ConstitutionTagger(Unreachable()))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_error_of_the_tree_carries_what_others_raised(name: str) -> None:
    kind, attack = ATTACKS[name]
    with pytest.raises(DPFusionError) as caught:
        attack()
    assert type(caught.value) is kind
    assert_bare(caught.value, SECRET)


def test_an_error_whose_words_cannot_be_had_is_told_without_them() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("Jane Roe is ill")

    with pytest.raises(ViewError, match=r"failed \(Mute\)") as caught, errors_as(ViewError, str):
        raise Mute
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
