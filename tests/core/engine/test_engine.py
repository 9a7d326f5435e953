"""The engine: options, streams, cancellation, guarantees, and no private text where it must not be."""

import asyncio
import logging
import math
import pickle
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dpfusion_core import (
    BackendError,
    DPFusionError,
    FusionEngine,
    Message,
    PrivacyParameterError,
    ScriptedBackend,
    Segment,
    ViewError,
)
from dpfusion_core.privacy import (
    SPENDING_RULES,
    Accounting,
    Neighbours,
    Spending,
    rdp_to_epsilon,
    token_loss,
)
from dpfusion_core.tagging import Span
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import Views
from tests.core.models import CharTokenizer
from tests.core.toys import (
    EOS,
    SECRET,
    TOKENS,
    VOCAB,
    logits_of,
    private_chat,
    saying_backend,
    secretive_backend,
)

PAPER: dict[str, Any] = {"alpha": 2.0, "beta": 0.01}
QUESTION = [Message("user", "what?")]


def test_private_request_has_the_guarantee_of_its_settings() -> None:
    result = FusionEngine(secretive_backend()).generate(private_chat(), **PAPER, max_tokens=50)
    guarantee = result.guarantee
    assert guarantee.epsilon == pytest.approx(rdp_to_epsilon(50 * 0.02, 2.0, 1e-5))
    assert (guarantee.order, guarantee.delta, guarantee.units) == (2.0, 1e-5, 1)
    assert (guarantee.tokens, guarantee.max_tokens, guarantee.accounting) == (50, 50, "fixed")
    assert guarantee.private
    assert result.finish_reason == "length"
    assert len(result.token_ids) == len(result.text) == 50


def test_guarantee_counts_the_first_token() -> None:
    result = FusionEngine(secretive_backend()).generate(private_chat(), **PAPER, max_tokens=1)
    assert result.guarantee.tokens == 1
    assert result.guarantee.charged == pytest.approx(0.02)


def test_early_end_is_charged_less_and_promised_the_same() -> None:
    engine = FusionEngine(secretive_backend(eos=1.0))
    result = engine.generate(private_chat(), **PAPER, max_tokens=50)
    assert (result.text, result.token_ids, result.finish_reason) == ("", (EOS,), "stop")
    assert result.guarantee.charged == pytest.approx(0.02)
    assert result.guarantee.epsilon == pytest.approx(rdp_to_epsilon(50 * 0.02, 2.0, 1e-5))


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
@pytest.mark.parametrize("units", [1, 3])
def test_epsilon_is_met_and_never_exceeded(
    accounting: Accounting, neighbours: Neighbours, units: int
) -> None:
    messages = [Message("user", SECRET, True, f"u{i}") for i in range(units)] + QUESTION
    options: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-6, "max_tokens": 9}
    guarantee = (
        FusionEngine(secretive_backend())
        .generate(messages, **options, accounting=accounting, neighbours=neighbours)
        .guarantee
    )
    assert guarantee.epsilon == 8.0
    assert guarantee.epsilon <= 8.0
    assert (guarantee.delta, guarantee.accounting, guarantee.neighbours) == (1e-6, accounting, neighbours)


def test_epsilon_may_be_meant_for_several_responses() -> None:
    options: dict[str, Any] = {"epsilon": 8.0, "order": 4.0, "max_tokens": 10}
    engine = FusionEngine(secretive_backend())
    whole = engine.generate(private_chat(), **options).guarantee
    part = engine.generate(private_chat(), **options, responses=5).guarantee
    assert whole.loss_per_token is not None
    assert part.loss_per_token == pytest.approx(whole.loss_per_token / 5)


def test_adaptive_accounting_gives_later_tokens_what_earlier_ones_left() -> None:
    """The private view agrees with the public one for five tokens, then objects."""
    tokenizer = CharTokenizer()
    needle = tuple(tokenizer(SECRET)["input_ids"])
    start = tuple(tokenizer("<assistant>")["input_ids"])

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        places = [i for i in range(len(row)) if row[i : i + len(start)] == start]
        step = len(row) - places[-1] - len(start)
        is_private = any(row[i : i + len(needle)] == needle for i in range(len(row)))
        probabilities = (0.05, 0.95) if is_private and step >= 5 else (0.95, 0.05)
        return logits_of(dict(zip(TOKENS[:2], probabilities, strict=True)))

    options: dict[str, Any] = {**PAPER, "max_tokens": 10, "curator": True}
    weights = {}
    for accounting in ("fixed", "adaptive"):
        engine = FusionEngine(ScriptedBackend(next_logits, tokenizer, VOCAB, [EOS]))
        report = engine.generate(private_chat(), **options, accounting=accounting).report
        assert report is not None
        weights[accounting] = report.lambdas["private"]
    assert weights["fixed"][:5] == weights["adaptive"][:5] == [1.0] * 5
    assert sum(weights["adaptive"][5:]) > 1.05 * sum(weights["fixed"][5:])
    assert weights["adaptive"][5] > 2.0 * weights["fixed"][5]


@pytest.mark.parametrize("spending", sorted(SPENDING_RULES))
def test_exhausted_unit_looks_like_any_other_output(spending: Spending) -> None:
    """The first tokens eat the budget; the text goes on to its full length."""
    options: dict[str, Any] = {"alpha": 2.0, "beta": 1e-4, "accounting": "adaptive", "spending": spending}
    result = FusionEngine(secretive_backend()).generate(
        private_chat(), **options, max_tokens=30, curator=True
    )
    assert (len(result.token_ids), result.finish_reason) == (30, "length")
    assert result.guarantee.exhausted == 0
    assert result.report is not None
    assert sum(result.report.divergences["private"]) <= 30 * 2e-4
    if spending == "capped":
        assert result.report.lambdas["private"][-1] == 0.0


def test_several_units_share_each_token() -> None:
    messages = [Message("user", SECRET, True, "a"), Message("user", "other", True, "b"), *QUESTION]
    result = FusionEngine(secretive_backend()).generate(messages, **PAPER, max_tokens=5, curator=True)
    assert result.guarantee.units == 2
    assert result.guarantee.loss_per_token == pytest.approx(token_loss(0.02, 2, 2.0))
    assert result.report is not None
    assert set(result.report.lambdas) == {"a", "b"}
    assert result.report.lambdas["b"] == [1.0] * 5  # its view says nothing that the public one does not


def test_replace_neighbours_cap_the_weight_and_cost_more() -> None:
    engine = FusionEngine(secretive_backend(private=(0.5, 0.3, 0.15, 0.05)))  # lambda could be 1
    result = engine.generate(
        private_chat(), **PAPER, neighbours="replace", mixing_loss=0.05, max_tokens=10, curator=True
    )
    assert result.guarantee.neighbours == "replace"
    assert result.guarantee.loss_per_token == pytest.approx(0.02 + 0.05)
    assert result.report is not None
    assert result.report.lambdas["private"] == pytest.approx([1.0 - math.exp(-0.05)] * 10)


def test_request_without_private_text_is_ordinary_generation() -> None:
    result = FusionEngine(saying_backend("hello")).generate(QUESTION, temperature=0.0)
    assert (result.text, result.finish_reason) == ("hello", "stop")
    assert (result.guarantee.epsilon, result.guarantee.units, result.guarantee.accounting) == (0.0, 0, "none")


def test_seed_reproduces_and_the_guarantee_says_that_it_is_not_private() -> None:
    engine = FusionEngine(secretive_backend())
    first, second = (engine.generate(private_chat(), **PAPER, seed=3, max_tokens=40) for _ in range(2))
    unseeded = [engine.generate(private_chat(), **PAPER, max_tokens=40).text for _ in range(3)]
    assert first.text == second.text
    assert not first.guarantee.private
    assert "NOT private" in str(first.guarantee)
    assert len({first.text, *unseeded}) == 4


@pytest.mark.parametrize("stop", [["lo w"], ["zzz", "lo w"], ["lo world", "lo w"]])
def test_stop_string_ends_generate_and_stream_alike(stop: list[str]) -> None:
    backend = saying_backend("hello world, bye")
    result = FusionEngine(backend).generate(QUESTION, temperature=0.0, stop=stop)
    chunks = list(FusionEngine(backend).stream(QUESTION, temperature=0.0, stop=stop))
    assert (result.text, result.finish_reason) == ("hel", "stop")
    assert "".join(chunk.text for chunk in chunks) == "hel"
    # Only what was sampled counts: nothing is generated behind the stop string.
    assert len(result.token_ids) == sum(len(chunk.token_ids) for chunk in chunks) <= len("hello world")


def test_held_back_text_comes_with_the_end() -> None:
    chunks = list(FusionEngine(saying_backend("abc")).stream(QUESTION, temperature=0.0, stop=["bcd"]))
    assert [chunk.text for chunk in chunks] == ["a", "bc"]
    assert [chunk.finish_reason for chunk in chunks] == [None, "stop"]
    assert chunks[0].guarantee is None
    assert chunks[1].guarantee is not None


def test_logits_processor_of_public_data_applies_to_private_rows() -> None:
    def ban_a(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, TOKENS[0]] = -math.inf
        return scores

    result = FusionEngine(secretive_backend()).generate(
        private_chat(), **PAPER, max_tokens=60, logits_processors=[ban_a]
    )
    assert TOKENS[0] not in result.token_ids


def test_logits_processor_sees_the_public_view_alone() -> None:
    seen: list[list[float]] = []

    def watch(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append([round(p, 6) for p in scores[0, TOKENS].exp().tolist()])
        assert SECRET not in CharTokenizer().decode(input_ids[0].tolist())
        return scores

    engine = FusionEngine(secretive_backend(public=(0.5, 0.3, 0.15, 0.05)))
    engine.generate(private_chat(), **PAPER, max_tokens=3, logits_processors=[watch])
    assert seen == [[0.5, 0.3, 0.15, 0.05]] * 3


def test_ready_views_and_continuation() -> None:
    backend = secretive_backend()
    views = Views((1, 2, 3), {"u": (1, 2, 4)})
    assert FusionEngine(backend).generate(views, **PAPER, max_tokens=3).prompt_tokens == 3
    messages = [Message("user", "what?"), Message("assistant", "it is")]
    seen: list[tuple[int, ...]] = []

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        seen.append(row)
        return logits_of({EOS: 1.0})

    FusionEngine(ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS])).generate(messages)
    assert CharTokenizer().decode(list(seen[0])).endswith("<assistant>it is")


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "epsilon and delta"),
    ({"epsilon": 20.0, "alpha": 2.0, "beta": 0.1}, "not both"),
    ({"epsilon": 8.0, "beta": 0.01}, "not both"),
    ({"epsilon": 8.0, "alpha": 2.0, "beta": 0.01}, "not both"),
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon": math.nan}, "epsilon"),
    ({"epsilon": 8.0, "order": 2.0}, "order=3.87"),
    ({"epsilon": 8.0, "mixing_loss": 0.1}, "mixing_loss"),
    ({"epsilon": 8.0, "responses": 0}, "responses"),
    (PAPER | {"order": 2.0}, "order"),
    (PAPER | {"responses": 2}, "responses"),
    (PAPER | {"accounting": "loose"}, "accounting"),
    (PAPER | {"spending": "all"}, "spending"),
    (PAPER | {"on_exhausted": "ignore"}, "on_exhausted"),
    ({"alpha": 2.0}, "order .alpha. and beta"),
    ({"alpha": 1.0, "beta": 0.01}, "alpha"),
    ({"alpha": 0.5, "beta": 0.01}, "alpha"),
    ({"alpha": math.nan, "beta": 0.01}, "alpha"),
    ({"alpha": math.inf, "beta": 0.01}, "alpha"),
    ({"alpha": "2", "beta": 0.01}, "alpha"),
    ({"alpha": 2.0, "beta": -0.01}, "beta"),
    ({"alpha": 2.0, "beta": math.nan}, "beta"),
    (PAPER | {"delta": 0.0}, "delta"),
    (PAPER | {"delta": 1.0}, "delta"),
    (PAPER | {"neighbours": "next"}, "neighbours"),
    (PAPER | {"mixing_loss": 0.1}, "mixing_loss"),
    (PAPER | {"temperature": 0.0}, "temperature"),
    (PAPER | {"temperature": math.nan}, "temperature"),
    (PAPER | {"max_tokens": 0}, "max_tokens"),
    (PAPER | {"max_tokens": 1.5}, "max_tokens"),
    (PAPER | {"stop": [""]}, "stop"),
    (PAPER | {"stop": "abc"}, "stop"),
    (PAPER | {"seed": -1}, "seed"),
    (PAPER | {"seed": "lucky"}, "seed"),
    (PAPER | {"top_p": math.nan}, "top_p"),
    (PAPER | {"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("options", "hint"), BAD_OPTIONS)
def test_bad_options_are_refused_before_any_computation(options: dict[str, Any], hint: str) -> None:
    backend = untouchable_backend()
    for call in (FusionEngine(backend).generate, FusionEngine(backend).stream):
        with pytest.raises(PrivacyParameterError, match=hint) as caught:
            call(private_chat(), **options)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert backend.open_sessions == 0


@pytest.mark.parametrize("messages", [[], ()])
def test_empty_conversation(messages: list[Message]) -> None:
    with pytest.raises(ViewError, match="empty"):
        FusionEngine(untouchable_backend()).generate(messages, **PAPER)


@pytest.mark.parametrize(
    "messages", ["Jane is ill.", [{"role": "user", "content": "Jane is ill."}], [None], [[]]]
)
def test_what_is_no_conversation_is_refused_without_its_text(messages: Any) -> None:
    with pytest.raises(ViewError, match="list of Message") as caught:
        FusionEngine(secretive_backend()).generate(messages)
    assert "Jane" not in str(caught.value)


def test_a_device_that_fails_behind_the_model_is_an_error_of_ours() -> None:
    class Meta:
        def __getattr__(self, name: str) -> Any:
            return getattr(session, name)

        def logits(self) -> torch.Tensor:
            return torch.zeros(2, VOCAB, device="meta")  # which has no values to look at

    backend: Any = secretive_backend()
    session = backend.open([[1], [1]])
    backend.open = lambda prompts: Meta()
    with pytest.raises(BackendError, match="failed"):
        FusionEngine(backend).generate(private_chat(), order=2.0, beta=0.01, max_tokens=2)


def test_context_length_is_checked_before_any_computation_without_the_private_length() -> None:
    backend = untouchable_backend(context_length=60)
    secret = "s" * 45
    with pytest.raises(ViewError, match=r"max_tokens=10.*60 tokens") as caught:
        FusionEngine(backend).stream(private_chat(secret), **PAPER, max_tokens=10)
    public = len(CharTokenizer()("<user>____\n<user>what?\n<assistant>")["input_ids"])
    numbers = {word.strip("().,") for word in str(caught.value).replace("=", " ").split()}
    assert str(public) in numbers
    assert str(public - 4 + 45) not in numbers


def test_nan_logits_are_an_error_before_any_token() -> None:
    row = logits_of({TOKENS[0]: 1.0})
    row[TOKENS[1]] = math.nan
    backend = ScriptedBackend(lambda ids: row, CharTokenizer(), VOCAB, [EOS])
    with pytest.raises(BackendError, match="unusable"):
        next(FusionEngine(backend).stream(private_chat(), **PAPER))
    assert backend.open_sessions == 0


def test_closing_a_stream_frees_the_session() -> None:
    backend = secretive_backend()
    stream = FusionEngine(backend).stream(private_chat(), **PAPER)
    next(stream)
    assert backend.open_sessions == 1
    stream.close()
    assert backend.open_sessions == 0


def test_interrupt_inside_a_stream_frees_the_session() -> None:
    backend = secretive_backend()
    stream = FusionEngine(backend).stream(private_chat(), **PAPER)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt())
    assert backend.open_sessions == 0


async def test_async_twins_give_the_same() -> None:
    engine = FusionEngine(secretive_backend())
    options: dict[str, Any] = {**PAPER, "seed": 5, "max_tokens": 20}
    expected = engine.generate(private_chat(), **options)
    assert await engine.agenerate(private_chat(), **options) == expected
    chunks = [chunk async for chunk in engine.astream(private_chat(), **options)]
    assert chunks == list(engine.stream(private_chat(), **options))


async def test_async_errors_are_typed() -> None:
    with pytest.raises(PrivacyParameterError):
        await FusionEngine(secretive_backend()).agenerate(private_chat())


async def test_cancelling_a_task_frees_the_session_after_the_token_in_progress() -> None:
    entered, leave = threading.Event(), threading.Event()

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        entered.set()
        leave.wait(10.0)
        return logits_of({TOKENS[0]: 1.0})

    backend = ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS])
    task = asyncio.create_task(FusionEngine(backend).agenerate(QUESTION))
    await asyncio.to_thread(entered.wait, 10.0)
    task.cancel()
    await asyncio.sleep(0.05)
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.open_sessions == 0


async def test_leaving_an_async_stream_early_frees_the_session() -> None:
    backend = secretive_backend()
    stream = FusionEngine(backend).astream(private_chat(), **PAPER)
    async for _ in stream:
        break
    await stream.aclose()
    assert backend.open_sessions == 0


def test_two_threads_share_an_engine() -> None:
    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    options: dict[str, Any] = {**PAPER, "seed": 1, "max_tokens": 8}
    chats = [private_chat(f"The city is {city}.") for city in ("Oslo", "Rome", "Bern", "Kyiv")]
    expected = [engine.generate(chat, **options).text for chat in chats]
    found: dict[int, str] = {}

    def work(index: int) -> None:
        found[index] = engine.generate(chats[index], **options).text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_nothing_data_dependent_shows(accounting: Accounting, caplog: pytest.LogCaptureFixture) -> None:
    """Two secrets that move the distributions differently leave all that is shown alike."""
    caplog.set_level(logging.DEBUG)
    shown = []
    for private in ((0.05, 0.15, 0.2, 0.6), (0.5, 0.3, 0.15, 0.05)):
        engine = FusionEngine(secretive_backend(private=private))
        options: dict[str, Any] = {**PAPER, "max_tokens": 5, "accounting": accounting}
        chunks = list(engine.stream(private_chat(), **options, curator=True))
        last = chunks[-1]
        assert last.guarantee is not None
        shown.append((last.guarantee, last.guarantee.as_dict(), str(last.guarantee), repr(last.guarantee)))
        assert last.report is not None
        assert repr(last.report) == "CuratorReport()"
        assert str(last.report.lambdas["private"][0]) not in repr(chunks)
        assert SECRET not in repr(chunks) + repr(engine)
    assert shown[0] == shown[1]
    assert SECRET not in caplog.text
    assert "lambda" not in caplog.text


def test_report_is_only_made_on_request() -> None:
    assert FusionEngine(secretive_backend()).generate(private_chat(), **PAPER).report is None


def test_guarantee_survives_pickling() -> None:
    guarantee = FusionEngine(secretive_backend()).generate(private_chat(), **PAPER, max_tokens=2).guarantee
    assert pickle.loads(pickle.dumps(guarantee)) == guarantee


def test_fault_in_the_middle_of_a_stream_frees_the_session() -> None:
    calls: Iterator[int] = iter(range(100))

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        if next(calls) > 4:
            raise BackendError("gone")
        return logits_of({TOKENS[0]: 1.0})

    backend = ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS])
    with pytest.raises(DPFusionError, match="gone"):
        list(FusionEngine(backend).stream(QUESTION))
    assert backend.open_sessions == 0


def untouchable_backend(**options: Any) -> ScriptedBackend:
    """A backend whose model must not be asked."""

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("The model was asked.")

    return ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS], **options)


def test_public_segments_of_a_mixed_message_reach_the_public_view() -> None:
    seen: list[str] = []

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        seen.append(CharTokenizer().decode(list(row)))
        return logits_of({EOS: 1.0})

    backend = ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS])
    mixed = Message("user", [Segment("I am "), Segment("Ann", True), Segment(".")])
    FusionEngine(backend, placeholder="_").generate([mixed], **PAPER)
    assert [view.split("\n")[0] for view in seen[:2]] == ["<user>I am _.", "<user>I am Ann."]


@pytest.mark.parametrize(
    "options", [{"alpha": 0.5, "beta": 0.1}, {"epsilon": 8.0, "alpha": 2.0}, {"accounting": "no"}]
)
def test_bad_options_are_refused_before_the_tagger_is_asked(options: Any) -> None:
    class Untouchable:
        def tag(self, text: str) -> list[Span]:
            raise AssertionError("The tagger was asked.")

    engine = FusionEngine(secretive_backend(), tagger=Narrowing(Untouchable(), on_error="raise"))
    with pytest.raises(PrivacyParameterError):
        engine.generate(private_chat(), **options)
