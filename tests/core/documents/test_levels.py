"""The three levels: what reaches the model, what is charged, and what the report says."""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core import (
    FusionEngine,
    PhraseTagger,
    PrivacyBudget,
    PrivacyLedger,
    RegexTagger,
    ScriptedBackend,
    Segment,
    Span,
    aprivatize,
    label_placeholder,
    length_preserving_placeholder,
    privatize,
)  # fmt: skip
from dpfusion_core.documents import Privatizer
from dpfusion_core.documents.chunks import cut, redact
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, TaggerError, ViewError
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.privacy import best_epsilon, response_loss
from dpfusion_core.tagging import FunctionTagger, Narrowing
from tests.core.models import CharTokenizer
from tests.core.toys import EOS, TOKENS, VOCAB, logits_of, saying_backend, secretive_backend

TAGGER = PhraseTagger({"xyzzy": "NAME", "plugh": "PLACE"})
TEXT = "The man xyzzy lives in plugh. He likes xyzzy a lot."
DP: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-5}


def recording(answer: str = "ab") -> tuple[FusionEngine, list[str]]:
    """An engine whose model answers the same to everything, and what it has read."""
    seen: list[str] = []
    tokenizer = CharTokenizer()
    inner = saying_backend(answer)

    def next_logits(row: tuple[int, ...]) -> Any:
        seen.append(tokenizer.decode(list(row)))
        return inner.score(row, ())

    return FusionEngine(ScriptedBackend(next_logits, tokenizer, VOCAB, eos_token_ids=[EOS])), seen


def test_redact_replaces_every_phrase_and_needs_no_model() -> None:
    document = privatize(TEXT, tagger=TAGGER)
    assert document.text == "The man ____ lives in ____. He likes ____ a lot."
    report = document.report
    assert (report.level, report.spans, report.tagging) == ("redact", {"NAME": 2, "PLACE": 1}, "phrases")
    assert (report.guarantee, report.chunks) == (None, 0)


def test_placeholders_by_label_number_and_length() -> None:
    by_label = privatize(TEXT, tagger=TAGGER, placeholder=label_placeholder())
    assert by_label.text == "The man [NAME] lives in [PLACE]. He likes [NAME] a lot."
    text = "xyzzy met plover and xyzzy."
    people = PhraseTagger(["xyzzy", "plover"], label="NAME")
    numbered = privatize(text, tagger=Narrowing(people, numbered=True), placeholder=label_placeholder())
    assert numbered.text == "[NAME_1] met [NAME_2] and [NAME_1]."
    assert (
        privatize(text, tagger=people, placeholder=length_preserving_placeholder("*")).text
        == "***** met ****** and *****."
    )


def test_several_documents_are_a_list() -> None:
    documents = privatize([TEXT, "", "plugh"], tagger=TAGGER, progress=True)
    assert [document.text for document in documents] == [redacted(TEXT), "", "____"]
    assert documents[1].report.spans == {}
    assert privatize([], tagger=TAGGER) == []


def redacted(text: str) -> str:
    return text.replace("xyzzy", "____").replace("plugh", "____")


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n"])
@pytest.mark.parametrize("level", ["redact", "paraphrase", "dp"])
def test_blank_texts_stay_as_they_are(level: Any, text: str) -> None:
    engine, seen = recording()
    budget = DP if level == "dp" else {}
    assert privatize(text, level, tagger=TAGGER, engine=engine, **budget).text == text
    assert not seen


def test_what_a_tagger_cannot_say_is_private_as_a_whole() -> None:
    def broken(text: str) -> list[Span]:
        raise ValueError(text)

    for tagger in (FunctionTagger(broken), FunctionTagger(lambda text: [])):
        document = privatize(TEXT, tagger=tagger)
        assert (document.text, document.report.tagging) == ("____", "whole message")
        assert document.report.spans == {"PRIVATE": 1}
    with pytest.raises(TaggerError):
        privatize(TEXT, tagger=Narrowing(FunctionTagger(broken), on_error="raise"))
    trusting = Narrowing(FunctionTagger(lambda text: []), trust_empty=True)
    assert privatize(TEXT, tagger=trusting).text == TEXT


def test_paraphrase_shows_the_model_redacted_text_alone() -> None:
    engine, seen = recording("ab")
    document = privatize(TEXT, "paraphrase", tagger=TAGGER, engine=engine)
    assert document.text == "ab"
    assert seen
    assert all(
        redacted(TEXT) in prompt and "xyzzy" not in prompt and "plugh" not in prompt for prompt in seen
    )
    assert document.report.guarantee is None
    assert document.report.chunks == 1


def test_paraphrase_asks_nothing_about_a_text_that_is_wholly_private() -> None:
    engine, seen = recording()
    assert privatize("xyzzy, plugh!", "paraphrase", tagger=TAGGER, engine=engine).text == "____, ____!"
    assert not seen


def test_dp_shows_the_model_both_views_and_states_the_guarantee() -> None:
    engine, seen = recording("ab")
    document = privatize(TEXT, "dp", tagger=TAGGER, engine=engine, max_tokens=20, **DP)
    assert any("xyzzy lives in plugh" in prompt for prompt in seen)
    assert any("____ lives in ____" in prompt for prompt in seen)
    guarantee = document.report.guarantee
    assert guarantee is not None
    assert guarantee.epsilon == 8.0
    assert guarantee.epsilon <= 8.0
    assert (guarantee.max_tokens, guarantee.units, guarantee.tagging) == (20, 1, "phrases")
    assert guarantee.tokens == 3  # two letters and the end
    assert guarantee.private
    seeded = privatize(TEXT, "dp", tagger=TAGGER, engine=engine, max_tokens=20, seed=1, **DP).report.guarantee
    assert seeded is not None
    assert not seeded.private


LONG = " ".join(f"Part {i} says xyzzy is here. Nothing more is said." for i in range(30))


def test_one_guarantee_for_all_chunks() -> None:
    """The bound of each token is the one that lasts for the tokens of all chunks together."""
    engine, _ = recording("ab")
    document = privatize(LONG, "dp", tagger=TAGGER, engine=engine, chunk=200, max_tokens=100, **DP)
    guarantee = document.report.guarantee
    assert guarantee is not None
    assert document.report.chunks > 5
    assert guarantee.max_tokens <= 100
    assert guarantee.max_tokens >= 100 - document.report.chunks
    assert guarantee.epsilon == 8.0
    assert guarantee.alpha is not None
    assert guarantee.beta is not None
    # By hand, from one token's bound: T tokens at order a lose T a beta; formula (4), minimised over a.
    orders = [1.0 + i / 1000 for i in range(1, int(1000 * (guarantee.alpha - 1.0)) + 1)] + [guarantee.alpha]
    tokens, bound = guarantee.max_tokens, guarantee.alpha * guarantee.beta
    by_hand = min(tokens * bound + math.log1p(-1 / a) - math.log(1e-5 * a) / (a - 1) for a in orders)
    assert guarantee.epsilon == pytest.approx(by_hand, rel=1e-3)
    assert guarantee.tokens == 3 * document.report.chunks
    assert document.text.split() == ["ab"] * document.report.chunks


def test_units_that_stand_in_few_chunks_are_covered() -> None:
    """Where fewer units share a chunk, each loses more: the worst chunk counts for all."""
    text = "Here is xyzzy with plugh in one place. " + "Then there is xyzzy alone for a while. " * 3
    engine, _ = recording("ab")
    narrowing = Narrowing(TAGGER, units="label")
    guarantee = privatize(
        text, "dp", tagger=narrowing, engine=engine, chunk=60, max_tokens=60, **DP
    ).report.guarantee
    assert guarantee is not None
    assert guarantee.units == 2
    assert guarantee.alpha is not None
    loss = response_loss(
        _parameters(guarantee), 1, guarantee.max_tokens  # as if every unit were alone in every chunk
    )  # fmt: skip
    assert best_epsilon(loss.at, guarantee.alpha, 1e-5).epsilon <= 8.0
    assert guarantee.epsilon == 8.0


def _parameters(guarantee: Any) -> Any:
    from dpfusion_core import PrivacyParameters

    return PrivacyParameters(guarantee.alpha, guarantee.beta, guarantee.delta)


def test_public_chunks_cost_nothing() -> None:
    text = "Nothing private is here. " * 20 + "But xyzzy is. " + "Nothing again at all. " * 20
    engine, _ = recording("ab")
    guarantee = privatize(
        text, "dp", tagger=TAGGER, engine=engine, chunk=100, max_tokens=100, **DP
    ).report.guarantee
    assert guarantee is not None
    assert guarantee.max_tokens < 40
    trusting = Narrowing(PhraseTagger(["plover"]), trust_empty=True)
    free = privatize(
        text, "dp", tagger=trusting, engine=engine, chunk=100, max_tokens=100, **DP
    ).report.guarantee
    assert free is not None
    assert (free.epsilon, free.accounting, free.units) == (0.0, "none", 0)


def ledger_of(epsilon: float = 8.0) -> PrivacyLedger:
    return PrivacyLedger("sqlite://", budget=PrivacyBudget(epsilon), key=b"k" * 32)


def test_a_document_is_charged_once_whatever_its_chunks() -> None:
    with ledger_of() as ledger:
        backend = recording("abababababababababababab")[0].backend
        engine = FusionEngine(backend, ledger=ledger)
        arguments: dict[str, Any] = {"tagger": TAGGER, "engine": engine, "chunk": 200, "max_tokens": 60, **DP}
        privatize(LONG, "dp", names="doc-1", **arguments)
        [balance] = ledger.account("doc-1").balances
        assert balance.spent == pytest.approx(balance.budget, rel=0.5)
        kinds = [entry.kind for entry in ledger.curator.entries("doc-1")]
        assert kinds.count("reserve") == kinds.count("settle") == 1
        with pytest.raises(BudgetExhaustedError):
            privatize(LONG, "dp", names="doc-1", **arguments)
        assert [b.spent for b in ledger.account("doc-1").balances] == [balance.spent]
        privatize(LONG, "dp", names="doc-2", **arguments)  # has an account of its own


def test_nothing_is_generated_for_an_account_that_cannot_pay() -> None:
    engine, seen = recording()
    with ledger_of(4.0) as ledger:
        poor = FusionEngine(engine.backend, ledger=ledger)
        with pytest.raises(BudgetExhaustedError):
            privatize(LONG, "dp", tagger=TAGGER, engine=poor, names="doc", chunk=200, max_tokens=60, **DP)
    assert not seen


def test_a_ledger_needs_names() -> None:
    with ledger_of() as ledger:
        engine = FusionEngine(recording()[0].backend, ledger=ledger)
        with pytest.raises(PrivacyParameterError, match="names"):
            privatize(TEXT, "dp", tagger=TAGGER, engine=engine, **DP)
        privatize(TEXT, "paraphrase", tagger=TAGGER, engine=engine)  # charges nobody
    with pytest.raises(PrivacyParameterError, match="name for each"):
        privatize([TEXT], tagger=TAGGER, names=["a", "b"])


def test_a_model_that_fails_on_the_way_leaves_the_charge() -> None:
    calls = 0

    def next_logits(row: tuple[int, ...]) -> Any:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise RuntimeError("xyzzy")
        return logits_of({TOKENS[0]: 1.0})

    backend = ScriptedBackend(next_logits, CharTokenizer(), VOCAB, eos_token_ids=[EOS])
    with ledger_of() as ledger:
        engine = FusionEngine(backend, ledger=ledger)
        with pytest.raises(Exception, match=r".*") as caught:
            privatize(LONG, "dp", tagger=TAGGER, engine=engine, names="doc", chunk=200, max_tokens=60, **DP)
        assert caught.type is not BudgetExhaustedError
        [balance] = ledger.account("doc").balances
        assert 0.0 < balance.spent < balance.budget


def test_dp_follows_the_private_text_within_the_bound() -> None:
    """With a generous budget the private view speaks; with a tiny one the output is that of the public view."""
    backend = secretive_backend((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0))
    shares = []
    for epsilon in (8.0, 2_000.0):
        text = privatize(
            "say xyzzy now",
            "dp",
            tagger=TAGGER,
            engine=FusionEngine(backend),
            epsilon=epsilon,
            max_tokens=400,
        ).text
        shares.append(text.count("b") / len(text))
    assert shares[0] == 0.0  # q(b) = 0 < p(b) forces lambda = 0
    backend = secretive_backend((0.9, 0.1, 0.0, 0.0), (0.1, 0.9, 0.0, 0.0))
    shares = [
        (text := privatize("say xyzzy now", "dp", tagger=TAGGER, engine=FusionEngine(backend), epsilon=epsilon,
                           max_tokens=400).text).count("b") / len(text)
        for epsilon in (8.0, 2_000.0)
    ]  # fmt: skip
    assert shares[0] < 0.3 < 0.6 < shares[1]


async def test_async_twin() -> None:
    engine, _ = recording("ab")
    alone, (one, two) = await asyncio.gather(
        aprivatize(TEXT, "dp", tagger=TAGGER, engine=engine, max_tokens=20, **DP),
        aprivatize([TEXT, "plugh"], "redact", tagger=TAGGER),
    )
    assert (alone.text, one.text, two.text) == ("ab", redacted(TEXT), "____")


async def test_async_twin_ends_with_the_chunk_in_progress() -> None:
    done = 0

    def next_logits(row: tuple[int, ...]) -> Any:
        nonlocal done
        done += 1
        time.sleep(0.02)
        return logits_of({EOS: 1.0})

    engine = FusionEngine(ScriptedBackend(next_logits, CharTokenizer(), VOCAB, eos_token_ids=[EOS]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(aprivatize(LONG, "paraphrase", tagger=TAGGER, engine=engine, chunk=60), 0.1)
    await asyncio.sleep(0.1)
    so_far = done
    await asyncio.sleep(0.2)
    assert done == so_far < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"level": "hide"}, "level"),
        ({"tagger": None}, "tagger="),
        ({"level": "paraphrase"}, "engine="),
        ({"level": "dp", "epsilon": 8.0}, "engine="),
        ({"level": "dp", "engine": "E"}, "epsilon"),
        ({"level": "redact", "epsilon": 8.0}, "leave out epsilon"),
        ({"level": "paraphrase", "engine": "E", "epsilon": 8.0, "delta": 1e-5}, "leave out delta, epsilon"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "alpha": 2.0, "beta": 0.1}, "not both"),
        ({"level": "dp", "engine": "E", "epsilon": -1.0}, "epsilon"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "temperature": 0.0}, "greedy"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "accounting": "adaptive"}, "accounting"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "max_new_tokens": 8}, "max_tokens"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "max_tokens": 0}, "max_tokens"),
        ({"level": "dp", "engine": "E", "epsilon": 8.0, "max_tokens": 1, "chunk": 50, "text": LONG}, "chunk"),
        ({"chunk": 1}, "chunk"),
        ({"colour": "red"}, "colour"),
    ],
    ids=repr,
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    arguments = {"text": TEXT, "tagger": TAGGER, **arguments}
    if arguments.get("engine") == "E":
        arguments["engine"] = recording()[0]
    with pytest.raises(PrivacyParameterError, match=words):
        privatize(arguments.pop("text"), **arguments)


@pytest.mark.parametrize("text", [None, 7, b"xyzzy", "\ud800"], ids=repr)
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(ViewError):
        privatize([text], tagger=TAGGER)


def test_the_engines_tagger_and_placeholder_are_the_default() -> None:
    engine = FusionEngine(recording()[0].backend, tagger=TAGGER, placeholder="<gone>")
    assert privatize("see xyzzy", engine=engine).text == "see <gone>"


def test_a_megabyte_has_one_guarantee() -> None:
    text = "The man with number 12345 lives here and likes the weather. " * 17_500
    assert len(text) > 1_000_000
    engine, _ = recording("ab")
    document = privatize(
        text, "dp", tagger=RegexTagger({"NUMBER": r"\d+"}), engine=engine, chunk=40_000, max_tokens=90, **DP
    )
    assert document.report.chunks > 20
    assert document.report.spans == {"NUMBER": 17_500}
    assert document.report.guarantee is not None
    assert document.report.guarantee.epsilon == 8.0


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    words = st.text(alphabet="ab .\n", min_size=1, max_size=60)
    drawn = draw(st.lists(st.tuples(st.booleans(), words), min_size=1, max_size=12))
    return [Segment(text, is_private, "u" if is_private else None) for is_private, text in drawn]


@given(segments(), st.integers(50, 80))
def test_chunks_join_to_the_document_and_never_part_a_private_segment(
    parts: list[Segment], size: int
) -> None:
    place = fixed_placeholder()
    chunks = cut(parts, size, place)
    assert "".join(chunk.redacted for chunk in chunks) == redact(parts, place)
    private = [segment.text for segment in parts if segment.is_private]
    assert [s.text for chunk in chunks for s in chunk.segments if s.is_private] == private
    assert all(len(chunk.redacted) <= 4 * size + 60 for chunk in chunks)


@given(segments(), st.text(alphabet="xy \n.", min_size=1, max_size=200))
def test_where_a_document_is_cut_does_not_depend_on_private_text(parts: list[Segment], other: str) -> None:
    """Else the number of chunks, and their lengths, would tell."""
    place = fixed_placeholder()
    neighbour = [Segment(other, True, "u") if part.is_private else part for part in parts]
    assert [c.redacted for c in cut(parts, 50, place)] == [c.redacted for c in cut(neighbour, 50, place)]


@given(st.lists(st.sampled_from(["xyzzy", "plugh", "a", " ", ". ", "\n", "xyzzy\u0301"]), max_size=20))
def test_putting_the_phrases_back_gives_the_text_back(words: list[str]) -> None:
    text = "".join(words)
    taken: list[str] = []

    def keep(segment: Segment) -> str:
        taken.append(segment.text)
        return "\x00"

    hidden = privatize(text, tagger=Narrowing(TAGGER, trust_empty=True), placeholder=keep).text
    restored = iter(taken)
    assert "".join(next(restored) if c == "\x00" else c for c in hidden) == text


def test_a_stopped_document_is_not_released() -> None:
    from dpfusion_core.errors import Cancelled

    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        Privatizer("paraphrase", tagger=TAGGER, engine=recording()[0])([TEXT], stop=stop)


def test_phrases_of_one_part_are_hidden_in_the_others() -> None:
    def first_only(text: str) -> Sequence[Span]:
        return [Span(text.index("xyzzy"), text.index("xyzzy") + 5)] if "man" in text else [Span(0, 1)]

    texts, _ = Privatizer(tagger=FunctionTagger(first_only))([TEXT, "a note on xyzzy"])
    assert texts[1] == "____ note on ____"


IDLE: list[tuple[dict[str, Any], str]] = [
    ({"epsilonn": 8.0}, "Did you mean 'epsilon'"), ({"neighbors": "replace"}, "leave out neighbours"),
    ({"taggr": TAGGER}, "Did you mean 'tagger'"), ({"placholder": "x"}, "Did you mean 'placeholder'"),
    ({"epsilon": 8.0}, "epsilon"), ({"delta": 1e-6}, "delta"), ({"max_tokens": 9}, "max_tokens"),
    ({"chunk": 100}, "chunk"), ({"instruction": "x"}, "instruction"), ({"temperature": 0.5}, "temperature"),
    ({"seed": 1}, "seed"), ({"engine": "dpfusion-tiny", "placeholder": "x"}, "engine"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), IDLE, ids=str)
def test_options_that_level_redact_does_not_read_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        privatize(TEXT, tagger=TAGGER, **options)
    with pytest.raises(PrivacyParameterError, match=words):
        asyncio.run(aprivatize(TEXT, tagger=TAGGER, **options))


def test_the_async_twin_shows_progress_too(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(aprivatize([TEXT], tagger=TAGGER, progress=True))
    assert "Privatising" in capsys.readouterr().err
