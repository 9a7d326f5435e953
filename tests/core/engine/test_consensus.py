"""A consensus with the engine's own model."""

from typing import Any

import pytest
import torch

from dpfusion_core import FusionEngine, ScriptedBackend
from dpfusion_core.backends import Session
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.tagging import PhraseTagger
from tests.core.models import CharTokenizer
from tests.core.toys import EOS, VOCAB, logits_of

START = CharTokenizer()("<assistant>")["input_ids"]


def answering(says: dict[str, str], otherwise: str = "dont know", **options: Any) -> ScriptedBackend:
    """A model that says the text of the first key that stands in the prompt."""
    tokenizer = CharTokenizer()

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        places = [i for i in range(len(row)) if list(row[i : i + len(START)]) == START]
        prompt, said = tokenizer.decode(row[: places[-1]]), len(row) - places[-1] - len(START)
        text = next((each for key, each in says.items() if key in prompt), otherwise)
        ids = tokenizer(text)["input_ids"]
        return logits_of({ids[said] if said < len(ids) else EOS: 1.0})

    return ScriptedBackend(next_logits, tokenizer, VOCAB, eos_token_ids=[EOS], **options)


def chat(*texts: str) -> list[Message]:
    documents = [Segment(text, True, f"doc-{number}") for number, text in enumerate(texts)]
    return [Message("user", documents), Message("user", "what?")]


SAYS = {"What many documents say": "the answer is mill", "MILL": "the mill", "HUGE": "big"}
CONSENSUS: Any = {"mechanism": "consensus", "epsilon": 2.0}


def test_the_engine_answers_by_consensus() -> None:
    result = FusionEngine(answering(SAYS)).generate(chat(*["MILL"] * 40), **CONSENSUS, temperature=0.0)
    assert result.items is not None
    assert [each.item for each in result.items] == ["mill"]
    assert (result.text, result.finish_reason) == ("the answer is mill", "stop")
    assert len(result.token_ids) == len("the answer is mill") + 1
    assert result.guarantee.tokens == 1  # one release; what is written costs nothing
    assert result.prompt_tokens > 0
    assert result.guarantee.private


def test_without_agreement_it_gives_the_public_answer() -> None:
    engine = FusionEngine(answering(SAYS))
    result = engine.generate(chat(*["HUGE"] * 3, *["x"] * 40), **CONSENSUS)
    assert (result.text, result.items) == ("dont know", ())


def test_batches_hold_both_mechanisms() -> None:
    engine = FusionEngine(answering(SAYS))
    by_vote, plain, failed = engine.batch(
        [chat(*["MILL"] * 40), [Message("user", "MILL")], chat("one")],
        each=[CONSENSUS, {}, CONSENSUS],
        return_exceptions=True,
    )
    assert by_vote.items  # type: ignore[union-attr]
    assert by_vote.text == "the answer is mill"  # type: ignore[union-attr]
    assert plain.text == "the mill"  # type: ignore[union-attr]
    assert plain.items is None  # type: ignore[union-attr]
    assert isinstance(failed, PrivacyParameterError)


async def test_it_streams_and_is_async() -> None:
    engine = FusionEngine(answering(SAYS))
    messages = chat(*["MILL"] * 40)
    pieces = [chunk async for chunk in engine.astream(messages, **CONSENSUS)]
    assert len(pieces) > 3
    assert pieces[-1].items
    assert (await engine.agenerate(messages, **CONSENSUS)).text == "the answer is mill"
    [both] = await engine.abatch([messages], **CONSENSUS)
    assert both.items


def test_the_seed_is_of_the_writing_and_not_of_the_noise() -> None:
    engine = FusionEngine(answering(SAYS))
    counts = set()
    for _ in range(12):
        result = engine.generate(chat(*["MILL"] * 40), mechanism="consensus", epsilon=0.5, seed=1)
        counts |= {each.count for each in result.items or ()}
        assert result.guarantee.private
    assert len(counts) > 1


def test_a_document_that_is_too_long_contributes_nothing() -> None:
    backend = answering(SAYS, context_length=400)
    result = FusionEngine(backend).generate(chat(*["MILL"] * 40, "MILL" * 1000), **CONSENSUS, max_tokens=30)
    assert result.items is not None
    assert [each.item for each in result.items] == ["mill"]


def test_a_document_on_which_the_model_fails_does_not_take_others_along() -> None:
    """Its own failure must not change what the others of its batch contribute."""
    inner = answering(SAYS)

    class Failing:
        """One bad prompt makes all that advance together fail at their next token."""

        def __init__(self) -> None:
            self.is_broken = False

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def together(self) -> Any:
            return Opener()

        def open(self, prompts: Any) -> Session:
            return inner.open(prompts)

    class Opener:
        broken = False

        def open(self, prompts: Any) -> Any:
            self.broken |= "HUGE" in inner.tokenizer.decode(prompts[0])
            return Guarded(inner.open(prompts), self)

    class Guarded:
        def __init__(self, session: Any, opener: Opener) -> None:
            self.session, self.opener = session, opener

        def logits(self) -> Any:
            if self.opener.broken:
                raise RuntimeError("out of memory")
            return self.session.logits()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

    texts = ["MILL"] * 40
    with_it = FusionEngine(Failing()).generate(chat("HUGE", *texts), **CONSENSUS)
    assert with_it.items is not None
    assert [each.item for each in with_it.items] == ["mill"]


def test_a_model_that_fails_on_public_text_is_an_error() -> None:
    backend = answering(SAYS, context_length=60)
    with pytest.raises(ViewError, match="exceed the model"):
        FusionEngine(backend).generate(chat(*["MILL"] * 40), **CONSENSUS, max_tokens=50)


def test_options_that_have_no_effect_are_refused() -> None:
    engine = FusionEngine(answering(SAYS))
    given: list[Any] = [{"spending": "accrued"}, {"curator": True}, {"order": 2.0}, {"tools": [{}]}]
    for option in given:
        with pytest.raises(PrivacyParameterError, match="has no effect with mechanism='consensus'"):
            engine.generate(chat(*["MILL"] * 40), **CONSENSUS, **option)
    with pytest.raises(PrivacyParameterError, match="max_items has no effect"):
        engine.generate(chat("x"), epsilon=8.0, max_items=3)


def test_every_mechanism_says_whether_retrieval_is_covered() -> None:
    engine = FusionEngine(answering(SAYS))
    for options in (CONSENSUS, {"epsilon": 8.0, "max_tokens": 3}):
        said = engine.generate(chat(*["MILL"] * 40), **options, retrieval="not covered").guarantee
        assert said.retrieval == "not covered"
        assert "Which documents were retrieved is not covered." in str(said)


def test_a_tagger_would_tell_who_takes_part() -> None:
    engine = FusionEngine(answering(SAYS), tagger=PhraseTagger(["MILL"]))
    assert engine.generate(chat(*["x MILL"] * 40), **CONSENSUS).guarantee.tagging == "phrases"
    with pytest.raises(UnsupportedError, match="exclude each other"):
        engine.generate(chat(*["x MILL"] * 40), **CONSENSUS, retrieval="covered")
