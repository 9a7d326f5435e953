"""A consensus behind a ledger: one account for all mechanisms, charged before a document is asked."""

from collections.abc import Iterator
from typing import Any

import pytest

from dpfusion_core import FusionEngine
from dpfusion_core.consensus import Consensus, plain_text
from dpfusion_core.errors import BackendError, BudgetExhaustedError, PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message, Segment
from dpfusion_core.privacy import PrivacyBudget
from tests.core.consensus.test_consensus import Clerk, chat
from tests.core.toys import secretive_backend


@pytest.fixture
def ledger() -> Iterator[PrivacyLedger]:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(4.0, 1e-5)) as found:
        yield found


def spent(ledger: PrivacyLedger, unit: str) -> tuple[float, float]:
    account = ledger.account(unit)
    return account.balances[0].spent, account.release_spent


def test_under_fixed_accounting_everyone_pays_the_same(ledger: PrivacyLedger) -> None:
    result = Consensus(Clerk(), ledger=ledger).generate(chat(*["the mill"] * 40, "", "other"), epsilon=2.0)
    assert result.items
    costs = {spent(ledger, f"doc-{number}") for number in (0, 40, 41)}
    assert len(costs) == 1
    assert min(min(costs)) > 0.0
    assert ledger.curator.verify().ok


def test_under_adaptive_accounting_who_said_nothing_loses_nothing(ledger: PrivacyLedger) -> None:
    result = Consensus(Clerk(), ledger=ledger).generate(
        chat(*["the mill"] * 40, "nothing", "I do not know", "____"), epsilon=2.0, accounting="adaptive"
    )
    assert result.items
    assert min(spent(ledger, "doc-0")) > 0.0
    for number in (40, 41):
        assert spent(ledger, f"doc-{number}") == (0.0, 0.0)
    assert result.guarantee.loss_per_token is None


def test_without_budget_no_document_is_asked(ledger: PrivacyLedger) -> None:
    clerk = Clerk()
    consensus = Consensus(clerk, ledger=ledger)
    for _ in range(2):
        consensus.generate(chat(*["the mill"] * 40), epsilon=2.5, responses=2)
    before = len(clerk.asked)
    with pytest.raises(BudgetExhaustedError):
        consensus.generate(chat(*["the mill"] * 40), epsilon=4.0)
    assert [texts for texts in clerk.asked[before:] if "Says" in texts[0]] == []


def test_who_cannot_pay_is_not_asked_and_has_no_vote(ledger: PrivacyLedger) -> None:
    clerk = Clerk()
    poor = chat(*["the mill"] * 40)
    Consensus(Clerk(), ledger=ledger).generate(poor, epsilon=4.0)
    fresh = [Segment("Says the well", True, f"new-{number}") for number in range(40)]
    messages = [Message("user", [*poor[0].segments, *fresh]), poor[1]]
    result = Consensus(clerk, ledger=ledger).generate(messages, epsilon=4.0, on_exhausted="zero-out")
    assert result.items is not None
    assert [each.item for each in result.items] == ["well"]
    assert result.guarantee.exhausted == 40
    assert not any("mill" in texts[0] for texts in clerk.asked)


def test_a_model_that_does_not_answer_costs_nothing_and_one_that_does_not_write_costs_the_release(
    ledger: PrivacyLedger,
) -> None:
    def broken(messages: Any) -> str:
        raise ValueError

    with pytest.raises(BackendError):
        Consensus(broken, ledger=ledger).generate(chat(*["the mill"] * 40), epsilon=2.0)
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.account("doc-0")

    def mute(messages: Any) -> str:
        if "What many documents say" in plain_text(messages[-1]):
            raise ValueError
        return Clerk()(messages)

    with pytest.raises(BackendError):
        Consensus(mute, ledger=ledger).generate(chat(*["the mill"] * 40), epsilon=2.0)
    assert min(spent(ledger, "doc-0")) > 0.0


def test_what_is_refused_costs_nothing(ledger: PrivacyLedger) -> None:
    consensus = Consensus(Clerk(), ledger=ledger)
    for texts, most in ((["a"], 1), (["a", "b"], 1), (["a"] * 40, 9)):
        with pytest.raises(PrivacyParameterError):
            consensus.generate(chat(*texts), epsilon=1.0, max_items=most)
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.account("doc-0")


def test_a_covered_retrieval_does_not_tell_who_has_no_budget(ledger: PrivacyLedger) -> None:
    options: Any = {"epsilon": 4.0, "retrieval": "covered"}
    with pytest.raises(PrivacyParameterError, match="on_exhausted='zero-out'"):
        Consensus(Clerk(), ledger=ledger).generate(chat(*["the mill"] * 40), **options)
    found = [
        Consensus(Clerk(), ledger=ledger).generate(messages, **options, on_exhausted="zero-out")
        for messages in (
            chat(*["the mill"] * 40),
            chat(*["the mill"] * 40),  # whose budget is spent by now
            [Message("user", "____"), Message("user", "What is it?")],
        )
    ]
    assert [len(result.items or ()) for result in found] == [1, 0, 0]
    assert found[1] == found[2]
    assert found[0].guarantee == found[1].guarantee


def test_one_account_pays_for_all_mechanisms(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    units = [Segment("xyzzy", True, f"doc-{number}") for number in range(40)]
    messages = [Message("user", units), Message("user", "what?")]
    engine.generate(messages, epsilon=2.0, responses=2, max_tokens=1)
    once = spent(ledger, "doc-0")
    engine.generate(messages, mechanism="consensus", epsilon=2.0, responses=2, max_tokens=1)
    twice = spent(ledger, "doc-0")
    assert twice[0] > once[0] > 0.0
    assert twice[1] > once[1] == 0.0
    engine.choose(messages, ["a", "b"], epsilon=1.0, responses=8)
    assert spent(ledger, "doc-0")[0] > twice[0]
    assert ledger.curator.verify().ok
