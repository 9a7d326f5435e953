"""Whatever a model or somebody's own backend does, the engine tells it in its own words."""

import logging
import traceback
from typing import Any

import pytest
import torch

from dpfusion_core import BackendError, FusionEngine, GenerationResult, TransformersBackend
from dpfusion_core.backends.guarded import GuardedSession
from tests.core.models import CharTokenizer, random_model
from tests.core.toys import private_chat, secretive_backend

OPTIONS: dict[str, Any] = {"alpha": 2.0, "beta": 0.01, "max_tokens": 4}
SECRET = "the secret is 12345"
ERRORS = [
    TypeError(SECRET),
    KeyError(SECRET),
    AssertionError(SECRET),
    MemoryError(SECRET),
    OSError(5, SECRET),
    AttributeError(SECRET),
    torch.OutOfMemoryError(SECRET),
    StopIteration(SECRET),
    type(SECRET, (Exception,), {})(),
]


class Odd:
    """Somebody's own backend: a session of another one, with one method replaced."""

    def __init__(self, method: str, act: Any) -> None:
        self._inner = secretive_backend()
        self._method, self._act = method, act
        self.is_odd = True

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self.is_odd:
            return self._act
        return getattr(self._inner, name)

    def together(self) -> Any:
        if self._method == "together" and self.is_odd:
            return self._act()
        return self

    def open(self, prompts: Any) -> Any:
        if self._method == "open" and self.is_odd:
            return self._act()
        session = self._inner.open(prompts)
        if self._method in ("logits", "append", "close") and self.is_odd:
            setattr(session, self._method, self._act)
        return session


def raising(error: BaseException) -> Any:
    """Return a function that raises, whatever it is given."""

    def act(*arguments: Any) -> Any:
        raise error

    return act


def assert_silent(error: BaseException) -> None:
    """Neither the error nor what hangs on it quotes the model's words."""
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not getattr(error, "__notes__", [])
    assert "12345" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("method", ["open", "logits", "append", "together"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__[:20])
def test_any_error_of_a_backend_becomes_ours_without_its_words(method: str, error: Exception) -> None:
    engine = FusionEngine(Odd(method, raising(error)))
    if method != "together":
        with pytest.raises(BackendError) as caught:
            engine.generate(private_chat(), **OPTIONS)
        assert_silent(caught.value)
        found = engine.batch([private_chat()] * 2, return_exceptions=True, **OPTIONS)
        assert [type(each) for each in found] == [BackendError] * 2
    else:
        with pytest.raises(BackendError) as caught:
            engine.batch([private_chat()], **OPTIONS)
        assert_silent(caught.value)


@pytest.mark.parametrize(
    "logits",
    [None, "logits", [[0.0]], torch.zeros(3), torch.zeros(1, 5), torch.zeros(2, 0), torch.zeros(2, 1, 5)],
    ids=["None", "text", "list", "vector", "rows", "columns", "cube"],
)
def test_logits_of_a_wrong_shape(logits: Any) -> None:
    engine = FusionEngine(Odd("logits", lambda: logits))
    with pytest.raises(BackendError, match="one row for each view"):
        engine.generate(private_chat(), **OPTIONS)
    assert engine.backend.open_sessions == 0  # type: ignore[attr-defined]


def test_a_session_that_is_none() -> None:
    with pytest.raises(BackendError):
        FusionEngine(Odd("open", lambda: None)).generate(private_chat(), **OPTIONS)


def test_one_failing_conversation_of_a_batch_leaves_the_others() -> None:
    backend = secretive_backend()
    score = backend.score

    def failing(prompt: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
        if len(prompt) > 120:
            raise KeyError(SECRET)
        return score(prompt, said)

    backend.score = failing  # type: ignore[method-assign]
    found = FusionEngine(backend).batch(
        [private_chat(), private_chat("z" * 100), private_chat()], return_exceptions=True, **OPTIONS
    )
    assert [type(each) for each in found] == [GenerationResult, BackendError, GenerationResult]
    assert_silent(found[1])  # type: ignore[arg-type]
    assert backend.open_sessions == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes(error: type[BaseException]) -> None:
    engine = FusionEngine(Odd("logits", raising(error())))
    with pytest.raises(error):
        engine.generate(private_chat(), **OPTIONS)


def test_a_session_that_cannot_be_closed_does_not_cost_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    engine = FusionEngine(Odd("close", raising(ValueError(SECRET))))
    assert engine.generate(private_chat(), **OPTIONS).token_ids
    assert "ValueError" in caplog.text
    assert "12345" not in caplog.text


def test_errors_inside_a_real_model() -> None:
    model = random_model("qwen2")
    engine = FusionEngine(TransformersBackend(model, CharTokenizer()))

    def failing(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(SECRET)

    model.lm_head.register_forward_pre_hook(failing)
    with pytest.raises(BackendError, match="AssertionError") as caught:
        engine.generate(private_chat(), **OPTIONS)
    assert_silent(caught.value)
    model.forward = lambda **inputs: None  # and one that returns nothing
    with pytest.raises(BackendError) as caught:
        engine.generate(private_chat(), **OPTIONS)
    assert_silent(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_view_that_equals_the_public_one_has_its_bits(dtype: torch.dtype) -> None:
    backend = TransformersBackend(random_model("qwen2").to(dtype), CharTokenizer())
    public, other = list(range(40)), [3, *range(41)]
    session = GuardedSession(backend, [public, other, public])
    for token in (4, 9):
        session.append(token)
        logits = session.logits()
        assert torch.equal(logits[2], logits[0])
        assert not torch.equal(logits[1], logits[0])
    session.close()


def test_many_units_are_told_before_they_are_computed(caplog: pytest.LogCaptureFixture) -> None:
    from dpfusion_core import Message
    from dpfusion_core.engine.requests import MANY_UNITS

    def chat(units: int) -> list[Message]:
        return [Message("user", "x", is_private=True, unit=f"u{i}") for i in range(units)]

    engine = FusionEngine(Odd("open", raising(BackendError("computed"))))
    for units, is_told in ((MANY_UNITS, False), (MANY_UNITS + 1, True)):
        with caplog.at_level(logging.WARNING), pytest.raises(BackendError, match="computed"):
            engine.generate(chat(units), **OPTIONS)
        assert (f"{units} privacy units" in caplog.text) is is_told
