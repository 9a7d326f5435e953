"""Ids of entities: from what an entity is, never from where it stands; one for ever, or refused by ledgers."""

import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import (
    BudgetExhaustedError,
    DPFusion,
    FusionEngine,
    Message,
    PhraseTagger,
    PrivacyBudget,
    PrivacyLedger,
    privatize,
)
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.tagging import FunctionTagger, Narrowing
from tests.core.toys import secretive_backend

ROOT = Path(__file__).resolve().parents[3]
KEY = "a key of sixteen bytes or more"
NAMES = PhraseTagger(["Ann", "Bob", "Carol", "Dave", "Zo\u00eb Li"], label="PERSON")


def ids(text: str, unit: str | None = None, tagger: Any = NAMES, **options: Any) -> list[str | None]:
    narrowed, _ = Narrowing(tagger, units="entity", **options)([Message("user", text, True, unit)])
    return [segment.unit for message in narrowed for segment in message.segments if segment.is_private]


def test_an_id_does_not_depend_on_who_was_named_before() -> None:
    [alone] = ids("Ann is ill.", key=KEY)
    for before in ("Bob", "Carol", "Bob and Carol and Dave"):
        assert ids(f"{before} met Ann.", key=KEY)[-1] == alone
    assert len({*ids("Ann, Bob, Carol", key=KEY)}) == 3


def test_spellings_of_a_phrase_have_one_id() -> None:
    phrases = ["Zo\u00eb Li", "Zoe\u0308 Li", "Zo\u00eb\n  Li", "ZO\u00cb LI", "zo\u00eb li"]
    phrases += [unicodedata.normalize(form, "Zo\u00eb Li") for form in ("NFC", "NFD", "NFKC", "NFKD")]
    whole = FunctionTagger(lambda text: [(0, len(text))], label="PERSON")
    assert len({each for phrase in phrases for each in ids(phrase, tagger=whole, key=KEY)}) == 1
    assert ids("stra\u00dfe", tagger=whole, key=KEY) == ids("STRASSE", tagger=whole, key=KEY)


def test_unit_label_phrase_and_key_tell_entities_apart() -> None:
    def one(phrase: str, label: str, unit: str | None, key: str) -> str | None:
        tagger = FunctionTagger(lambda text: [(0, len(text))], label=label)
        return ids(phrase, unit, tagger, key=key)[0]

    cases = [("Ann", "PERSON", None, KEY), ("Bob", "PERSON", None, KEY), ("Ann", "NAME", None, KEY),
             ("Ann", "PERSON", "doc-1", KEY), ("Ann", "PERSON", "doc-2", KEY), ("Ann", "PERSON", None, KEY + "!"),
             ("nAnn", "PERSO", None, KEY)]  # fmt: skip
    assert len({one(*case) for case in cases}) == len(cases)


def test_an_id_holds_neither_the_phrase_nor_a_digest_that_can_be_tried_out() -> None:
    [unit] = ids("Ann is ill.", key=KEY)
    assert unit is not None
    assert "ann" not in unit.casefold()
    for name in ("md5", "sha1", "sha256", "sha3_256", "blake2b", "blake2s"):
        for text in ("Ann", "ann", "PERSON:Ann", "PERSON/Ann", "PERSONAnn", "personann"):
            assert hashlib.new(name, text.encode()).hexdigest()[:16] not in unit


def in_another_process(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": f"{ROOT}/core:{ROOT}", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_key_gives_the_same_id_after_a_restart_and_no_key_does_not() -> None:
    script = (
        "from dpfusion_core import Message, PhraseTagger\nfrom dpfusion_core.tagging import Narrowing\n"
        "n = Narrowing(PhraseTagger(['Ann'], label='PERSON'), units='entity', key={key!r})\n"
        "print(n([Message('user', 'Bob? Ann.', is_private=True)])[0][0].segments[1].unit)\n"
    )
    assert in_another_process(script.format(key=KEY)) == ids("Ann is ill.", key=KEY)[0]
    assert in_another_process(script.format(key=None)) != ids("Ann is ill.")[0]
    assert ids("Ann is ill.") == ids("Bob met Ann.")[1:]


ASK = {"epsilon": 4.0, "delta": 1e-5, "max_tokens": 3}


def ask(url: str, text: str) -> float:
    """Ask with a ledger that is opened anew, and return how many units it keeps afterwards."""
    with PrivacyLedger(url, budget=PrivacyBudget(epsilon=8.0, delta=1e-5)) as ledger:
        engine = FusionEngine(
            secretive_backend(), ledger=ledger, tagger=Narrowing(NAMES, units="entity", trust_empty=True)
        )
        engine.generate([Message("user", text, is_private=True)], **ASK)  # type: ignore[arg-type]
        return len(list(ledger.curator.accounts()))


def test_a_ledger_charges_an_entity_to_one_account_whoever_else_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    assert ask(url, "Ann") == 1
    assert ask(url, "Bob or ann: Ann") == 2
    with pytest.raises(BudgetExhaustedError) as caught:
        [ask(url, f"{before} Ann") for before in ("Carol", "Dave", "Bob", "Carol, Dave")]
    assert [unit for unit in caught.value.units if re.fullmatch(r"person:[0-9a-f]{32}", unit.casefold())]
    assert "Ann" not in str(caught.value)


def test_ids_that_end_with_the_process_are_refused_by_a_ledger(tmp_path: Path) -> None:
    backend = secretive_backend()
    narrowed, _ = Narrowing(NAMES, units="entity")([Message("user", "Ann is ill.", True, "doc-1")])
    budget = PrivacyBudget(epsilon=8.0, delta=1e-5)
    with PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=budget) as ledger:
        with pytest.raises(PrivacyParameterError, match="key="):
            FusionEngine(backend, ledger=ledger).generate(narrowed, **ASK)  # type: ignore[arg-type]
        narrowed, _ = Narrowing(NAMES, units="entity", key=KEY)([Message("user", "Ann is ill.", True)])
        FusionEngine(backend, ledger=ledger).generate(narrowed, **ASK)  # type: ignore[arg-type]
    narrowed, _ = Narrowing(NAMES, units="entity")([Message("user", "Ann is ill.", True)])
    FusionEngine(backend).generate(narrowed, **ASK)  # type: ignore[arg-type]


class Untouchable:
    def tag(self, text: str) -> list[Any]:
        raise AssertionError("The tagger was asked.")


def test_a_ledger_without_a_key_for_entities_is_refused_before_the_tagger_is_asked() -> None:
    narrowing = Narrowing(Untouchable(), units="entity", on_error="raise")
    with pytest.raises(PrivacyParameterError, match="key="):
        narrowing([Message("user", "Ann is ill.", True)], object())  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [
    {"units": "entity", "key": "short"}, {"units": "entity", "key": 7}, {"units": "label", "key": KEY}, {"key": KEY},
])  # fmt: skip
def test_bad_keys(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError) as caught:
        Narrowing(NAMES, **options)
    assert KEY not in str(caught.value)
    assert "short" not in str(caught.value).replace("shorten", "")


def test_a_key_does_not_show() -> None:
    assert KEY not in repr(Narrowing(NAMES, units="entity", key=KEY))


def test_the_published_class_and_documents_take_the_ledgers_key(tmp_path: Path) -> None:
    budget = PrivacyBudget(epsilon=8.0, delta=1e-5)
    with PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=budget) as ledger:
        conversation = DPFusion("dpfusion-tiny", tagger=Narrowing(NAMES, units="entity"), ledger=ledger)
        conversation.add_message("user", "Ann lives in Oslo.", is_private=True)
        conversation.run_tagger()
        conversation.generate(max_tokens=2, **{k: ASK[k] for k in ("epsilon", "delta")})  # type: ignore[arg-type]
        privatize(
            "Ann lives in Oslo.", "dp", tagger=Narrowing(NAMES, units="entity"), engine=conversation.engine,
            epsilon=2.0, max_tokens=4, names="doc-1",
        )  # fmt: skip
        assert len(list(ledger.curator.accounts())) == 2
