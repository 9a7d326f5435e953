"""Paraphrases of a framework's documents: one guarantee and one charge for all chunks of a document."""

import asyncio
import time
from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.adapters import DocumentUnit, Paraphraser, seen, warn_unstable
from dpfusion_core.errors import BackendError, BudgetExhaustedError, PrivacyParameterError, RefusedError
from dpfusion_core.tagging import PhraseTagger

SAYS = "Somebody was treated."
ANN, BO = DocumentUnit("ann.txt", is_stable=True), DocumentUnit("bo.txt", is_stable=True)
CHUNKS = [("Ann Roe has the gout.", ANN), ("Bo Lie owes forty kroner.", BO), ("Ann Roe lives in Oslo.", ANN)]


def engine_saying(says: str = SAYS, **parts: Any) -> tuple[FusionEngine, ScriptedBackend]:
    backend = ScriptedBackend.saying(says)
    return FusionEngine(backend, **parts), backend


def paraphraser(engine: FusionEngine, **arguments: Any) -> Paraphraser:
    options: Any = {"epsilon": 2.0, "max_tokens": 12, **arguments.pop("options", {})}
    return Paraphraser(engine, options, "Paraphrase the text.", "Name it.", **arguments)


def opened_ledger(epsilon: float) -> PrivacyLedger:
    return PrivacyLedger("sqlite://", budget=PrivacyBudget(epsilon), key="k" * 32)


def spent(ledger: PrivacyLedger, unit: str) -> float:
    return max((balance.spent for balance in ledger.account(unit).balances), default=0.0)


@pytest.fixture(autouse=True)
def _nothing_seen() -> Any:
    yield
    seen.forget()
    warn_unstable.cache_clear()


@pytest.mark.parametrize("is_async", [False, True])
def test_all_chunks_of_a_document_share_one_guarantee(is_async: bool) -> None:
    engine, backend = engine_saying()
    work = paraphraser(engine)
    first, other, second = asyncio.run(work.arun(CHUNKS)) if is_async else work(CHUNKS)
    assert [each.text for each in (first, other, second)] == [SAYS] * 3
    assert first.guarantee == second.guarantee
    assert (first.guarantee.max_tokens, other.guarantee.max_tokens) == (24, 12)
    assert (first.guarantee.units, first.guarantee.tagging) == (1, "none")
    assert first.guarantee.epsilon == other.guarantee.epsilon == 2.0
    # The settings of a token are those of the whole document: twice as long, stricter for each.
    assert (first.guarantee.beta or 0.0) < (other.guarantee.beta or 0.0)
    for public, private in backend.requests:
        assert not {"Ann", "Bo"} & set(public.split())
        assert ("Ann" in private) is not ("Bo" in private)


def test_a_document_is_charged_for_all_of_its_chunks() -> None:
    """The oracle is the ledger: a document of two chunks may cost what one of one chunk may, and not twice it."""
    with opened_ledger(2.0) as ledger:
        engine, _ = engine_saying("and so on " * 20, ledger=ledger)
        paraphraser(engine)(CHUNKS)
        assert ledger.account("ann.txt").spent_epsilon == pytest.approx(2.0, rel=1e-3)
        assert ledger.account("bo.txt").spent_epsilon == pytest.approx(2.0, rel=1e-3)
        with pytest.raises(BudgetExhaustedError):
            paraphraser(engine)(CHUNKS[:1])


def test_nothing_is_written_of_documents_that_cannot_pay() -> None:
    with opened_ledger(2.0) as ledger:
        engine, backend = engine_saying("and so on " * 20, ledger=ledger)
        paraphraser(engine)(CHUNKS[1:2])
        before, asked = spent(ledger, "bo.txt"), len(backend.requests)
        with pytest.raises(BudgetExhaustedError):
            paraphraser(engine)(CHUNKS)
        # What was reserved for the other document that goes with it is given back.
        two_of_one_chunk = [("Ann Roe has the gout.", ANN), CHUNKS[1]]
        with pytest.raises(BudgetExhaustedError):
            paraphraser(engine)(two_of_one_chunk)
        assert spent(ledger, "ann.txt") == 0.0
        assert spent(ledger, "bo.txt") == before
        assert len(backend.requests) == asked


def test_documents_go_through_the_model_together() -> None:
    """Chunks share rounds, whichever document they are of."""

    class Counting(ScriptedBackend):
        opened = 0
        most = 0

        def open(self, prompts: Any) -> Any:
            self.opened += 1
            self.most = max(self.most, self.open_sessions + 1)
            return super().open(prompts)

    documents = [(f"Record {i}.", DocumentUnit(f"{i}.txt", is_stable=True)) for i in range(7)]
    for together, most in ((3, 3), (1, 1)):
        backend = Counting.saying(SAYS)
        assert isinstance(backend, Counting)
        paraphraser(FusionEngine(backend), together=together)(documents)
        assert (backend.opened, backend.most) == (7, most)


def test_unnamed_chunks_are_documents_of_their_own() -> None:
    engine, _ = engine_saying()
    nobody = DocumentUnit(None, is_stable=False)
    found = paraphraser(engine)([("Ann is ill.", nobody), ("Bo is ill.", nobody)])
    assert [each.guarantee.max_tokens for each in found] == [12, 12]


def test_a_tagger_narrows_what_is_private_and_long_texts_are_cut() -> None:
    engine, backend = engine_saying(tagger=PhraseTagger(["Ann Roe"]))
    text = "Ann Roe is a patient who came to us in May. " * 80  # as long as several chunks of the model
    (found,) = paraphraser(engine, options={"max_tokens": None})([(text, ANN)])
    assert len(backend.requests) > 2
    assert found.guarantee.tagging == "phrases"
    assert found.guarantee.epsilon == 2.0
    assert all("patient" in public and "Ann" not in public for public, *_ in backend.requests)


def test_a_ledger_takes_no_unstable_unit() -> None:
    drawn = DocumentUnit("5f1c", is_stable=False)
    engine, backend = engine_saying(ledger=opened_ledger(2.0))
    with pytest.raises(RefusedError, match=r"may change when it is read again.*Name it\."):
        paraphraser(engine)([("Ann is ill.", drawn)])
    assert not backend.requests
    with pytest.warns(UserWarning, match="Name it"):
        paraphraser(engine_saying()[0])([("Ann is ill.", drawn)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": None}, "needs a budget"),
        ({"accounting": "adaptive"}, "accounting is not for documents"),
        ({"on_exhausted": "zero-out"}, "on_exhausted is not for documents"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_options_that_documents_do_not_have_are_refused(options: dict[str, Any], words: str) -> None:
    engine, backend = engine_saying()
    with pytest.raises(PrivacyParameterError, match=words):
        paraphraser(engine, options=options)(CHUNKS)
    assert not backend.requests


def test_options_that_say_the_default_are_read() -> None:
    found = paraphraser(engine_saying()[0], options={"accounting": "fixed", "delta": 1e-5, "top_p": 0.9})(
        CHUNKS
    )
    assert found[0].guarantee.delta == 1e-5


def test_the_net_knows_what_was_private_and_what_was_released() -> None:
    text = "Ann Roe of Trondheim has had the gout since May."
    paraphraser(engine_saying()[0])([(text, ANN)])
    assert seen.holds(text)
    paraphraser(engine_saying(text)[0], options={"max_tokens": 60})([(text, ANN)])
    assert not seen.holds(text)


class Failing(ScriptedBackend):
    """Fails at its first openings, or is slow."""

    failures = 0
    delay = 0.0
    opened = 0

    def open(self, prompts: Any) -> Any:
        self.opened += 1
        time.sleep(self.delay)
        if self.opened <= self.failures:
            raise BackendError("Out of memory.")
        return super().open(prompts)


def failing(failures: int = 0, delay: float = 0.0) -> Failing:
    backend = Failing.saying(SAYS)
    assert isinstance(backend, Failing)
    backend.failures, backend.delay = failures, delay
    return backend


@pytest.mark.parametrize(("retries", "is_enough"), [(2, True), (1, False)])
def test_a_model_that_fails_is_asked_again(retries: int, is_enough: bool) -> None:
    backend = failing(2)
    work = paraphraser(FusionEngine(backend), max_retries=retries)
    if is_enough:
        assert work(CHUNKS[:1])[0].text == SAYS
    else:
        with pytest.raises(BackendError, match="Out of memory"):
            work(CHUNKS[:1])
    assert backend.opened == retries + 1


def test_a_call_that_takes_too_long_ends_between_chunks() -> None:
    backend = failing(delay=0.1)
    work = paraphraser(FusionEngine(backend), timeout=0.05, together=1, max_retries=3)
    with pytest.raises(BackendError, match=r"within timeout=0\.05 seconds"):
        work(CHUNKS)
    assert backend.opened == 1


async def test_a_cancelled_task_ends_with_the_chunk_in_progress() -> None:
    backend = failing(delay=0.1)
    with opened_ledger(2.0) as ledger:
        work = paraphraser(FusionEngine(backend, ledger=ledger), together=1)
        task = asyncio.create_task(work.arun(CHUNKS))
        while not backend.opened:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.2)
        assert backend.opened == 1


def test_no_chunks() -> None:
    assert paraphraser(engine_saying()[0])([]) == []
    (blank,) = paraphraser(engine_saying()[0])([(" \n", ANN)])
    assert (blank.text, blank.guarantee.units) == (" \n", 0)


def test_neighbouring_messages_are_what_the_engine_reads() -> None:
    """The instruction is public, the document private as a whole; as the engine says of the same request."""
    ours, theirs = engine_saying()[1], ScriptedBackend.saying(SAYS)
    paraphraser(FusionEngine(ours))(CHUNKS[:1])
    messages = [Message("user", CHUNKS[0][0], is_private=True)]
    FusionEngine(theirs).generate(messages, epsilon=2.0, max_tokens=12)
    assert ours.requests[0][1].count(CHUNKS[0][0]) == theirs.requests[0][1].count(CHUNKS[0][0]) == 1
    assert all("Paraphrase the text." in view for view in ours.requests[0])
