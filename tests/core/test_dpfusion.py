"""The published library's calls: same names, same keys, none of its faults."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpfusion_core import (
    DPFusion,
    Narrowing,
    PhraseTagger,
    PrivacyGuarantee,
    PrivacyParameterError,
    Span,
    TaggerError,
    UnsupportedError,
    ViewError,
    compute_epsilon_single_group,
    generate_dp_text,
    length_preserving_placeholder,
)
from dpfusion_core.tiny import model_path
from dpfusion_core.views import build_views
from tests.core.models import CharTokenizer, random_model

DOCUMENT = "The applicant was born in 1973 and lives in Les Salles-sur-Verdon, France."


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(model_path())


@pytest.fixture
def dpf(parts: tuple[Any, Any]) -> DPFusion:
    tagger = PhraseTagger(["1973", "Les Salles-sur-Verdon, France"])
    return DPFusion(model=parts[0], tokenizer=parts[1], tagger=tagger)


def test_published_quick_start(dpf: DPFusion) -> None:
    dpf.add_message("system", "Paraphrase the document.", is_private=False)
    dpf.add_message("user", DOCUMENT, is_private=True)
    dpf.add_message("user", "I just passed the document to you.", is_private=False)
    dpf.add_message("assistant", "Here is the paraphrased document:", is_private=False)
    dpf.run_tagger()
    output = dpf.generate(alpha=2.0, beta=0.01, max_new_tokens=12)
    assert isinstance(output, Mapping)
    assert set(output) == {"text", "lambdas", "divergences", "token_ids", "guarantee"}
    assert "paraphrased document" not in output["text"]  # the answer alone, without the prompt
    count = len(output["token_ids"])
    assert (
        len(output["divergences"]["private"]) == len(output["lambdas"]["private"]) == count
    )  # first included
    assert max(output["divergences"]["private"]) <= 2.0 * 0.01
    result = compute_epsilon_single_group(
        divergences=output["divergences"]["private"], alpha=2.0, delta=1e-5, beta=0.01
    )
    assert result["T"] == count
    assert result["empirical"] <= result["theoretical"] <= output["guarantee"].epsilon + 1e-12
    assert isinstance(output["guarantee"], PrivacyGuarantee)


def test_tagger_narrows_what_is_private(dpf: DPFusion) -> None:
    dpf.add_message("user", DOCUMENT, is_private=True)
    assert "applicant" not in dpf.public_context
    dpf.run_tagger()
    assert "born in ____ and lives in ____." in dpf.public_context
    assert DOCUMENT in dpf.private_context
    assert not any(secret in dpf.public_context for secret in ("1973", "Verdon", "France"))


def test_contexts_are_the_exact_prompts(dpf: DPFusion, parts: tuple[Any, Any]) -> None:
    dpf.add_message("user", DOCUMENT, is_private=True)
    dpf.add_message("user", "Where?")
    views = build_views(dpf._messages, parts[1], dpf.engine.placeholder)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(parts[1](text, add_special_tokens=False)["input_ids"])

    assert ids(dpf.private_context) == views.private["private"]
    assert ids(dpf.public_context) == views.public
    options: dict[str, Any] = {"alpha": 2.0, "beta": 0.05, "max_new_tokens": 8, "seed": 4}
    expected = dpf.generate(**options)["token_ids"]
    assert dpf.generate(dpf.private_context, dpf.public_context, **options)["token_ids"] == expected
    private, public = torch.tensor(views.private["private"]), torch.tensor([views.public])
    assert dpf.generate_from_tokens(private, public, **options)["token_ids"] == expected
    assert dpf.generate_from_tokens(private.tolist(), list(views.public), **options)["token_ids"] == expected
    text = generate_dp_text(*parts, dpf.private_context, dpf.public_context, **options)
    assert text["token_ids"] == expected


def test_result_shows_no_data_dependent_number(dpf: DPFusion) -> None:
    dpf.add_message("user", DOCUMENT, is_private=True)
    output = dpf.generate(max_new_tokens=3)
    shown = repr(output) + str(output) + repr(dpf) + repr(dpf.tagger)
    assert not any(str(value) in shown for value in output["divergences"]["private"])
    assert "1973" not in shown
    json.dumps({**output, "guarantee": output["guarantee"].as_dict()})


def test_named_units_have_rows_of_their_own(dpf: DPFusion) -> None:
    dpf.add_message("user", "Ann lives in Oslo.", is_private=True, unit="ann")
    dpf.add_message("user", "Bob lives in Rome.", is_private=True)
    output = dpf.generate(max_new_tokens=3)
    assert set(output["lambdas"]) == {"ann", "private"}
    assert "____" in dpf.public_context
    with pytest.raises(UnsupportedError, match="Several"):
        _ = dpf.private_context


def test_conversation_without_private_text(dpf: DPFusion) -> None:
    dpf.add_message("user", "Hello")
    output = dpf.generate(temperature=0.0, max_new_tokens=3)
    assert (output["lambdas"], output["divergences"], output["guarantee"].epsilon) == ({}, {}, 0.0)


def test_max_tokens_of_the_constructor_and_placeholders(parts: tuple[Any, Any]) -> None:
    short = DPFusion(*parts, max_tokens=2, placeholder=length_preserving_placeholder())
    short.add_message("user", "Oslo", is_private=True)
    assert len(short.generate()["token_ids"]) <= 2
    assert "\n____<" in short.public_context
    short.clear_messages()
    with pytest.raises(ViewError, match="empty"):
        short.generate()


def test_loading_by_name() -> None:
    assert "dpfusion-tiny" in repr(DPFusion("dpfusion-tiny"))


@pytest.mark.parametrize(
    "arguments", [("owner", "x"), ("user", "", True), ("user", "x", False, "unit"), ("user", "x", 1)]
)
def test_bad_message_leaves_the_conversation_as_it_was(dpf: DPFusion, arguments: tuple[Any, ...]) -> None:
    dpf.add_message("user", "Hello")
    before = dpf.public_context
    with pytest.raises(ViewError):
        dpf.add_message(*arguments)
    assert dpf.public_context == before


class Broken:
    """A tagger whose error quotes what it read."""

    def tag(self, text: str) -> Sequence[Span]:
        raise ValueError(f"cannot tag {text}")


class Wild:
    """A tagger whose spans lie outside the text."""

    def tag(self, text: str) -> Sequence[Span]:
        return [Span(0, len(text) + 1)]


class Blind:
    """A tagger that finds nothing."""

    def tag(self, text: str) -> Sequence[Span]:
        return []


@pytest.mark.parametrize("tagger", [Broken(), Wild(), None])
def test_failing_tagger_raises_without_text_and_changes_nothing(parts: tuple[Any, Any], tagger: Any) -> None:
    dpf = DPFusion(*parts, tagger=tagger)
    dpf.add_message("user", DOCUMENT, is_private=True)
    before = dpf.public_context
    with pytest.raises(TaggerError) as caught:
        dpf.run_tagger()
    assert "1973" not in f"{caught.value} {caught.value.__context__} {caught.value.__cause__}"
    assert dpf.public_context == before


def test_message_in_which_nothing_is_found_stays_private(parts: tuple[Any, Any]) -> None:
    dpf = DPFusion(*parts, tagger=Blind())
    with pytest.raises(ViewError, match="empty"):
        dpf.run_tagger()
    dpf.add_message("user", DOCUMENT, is_private=True)
    dpf.run_tagger()
    assert "applicant" not in dpf.public_context


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda d: d.generate("a"), "together"),
        (lambda d: d.generate(public_context="a"), "together"),
        (lambda d: d.generate("", ""), "empty"),
        (lambda d: d.generate_from_tokens([], [1]), "empty"),
        (lambda d: d.generate_from_tokens(torch.zeros(2, 3, dtype=torch.long), [1]), "one row"),
        (lambda d: d.generate_from_tokens(torch.zeros(3), [1]), "one row"),
    ],
)
def test_bad_contexts(dpf: DPFusion, call: Any, hint: str) -> None:
    with pytest.raises(ViewError, match=hint):
        call(dpf)


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"beta": -1.0}, {"temperature": 0.0}, {"bogus": 1}])
def test_bad_options(dpf: DPFusion, options: dict[str, Any]) -> None:
    dpf.add_message("user", DOCUMENT, is_private=True)
    with pytest.raises(PrivacyParameterError, match=next(iter(options))):
        dpf.generate(**options)


def test_model_without_a_chat_template() -> None:
    class NoTemplate(CharTokenizer):
        chat_template = None  # type: ignore[assignment]

    dpf = DPFusion(random_model("qwen2"), NoTemplate())
    dpf.add_message("user", DOCUMENT, is_private=True)
    with pytest.raises(ViewError, match="chat template") as caught:
        dpf.generate()
    assert "1973" not in str(caught.value)
    # Ready prompts need no template.
    assert dpf.generate("abc", "ab_", max_new_tokens=2)["token_ids"]


def test_epsilon_takes_the_place_of_the_default_alpha_and_beta() -> None:
    dpf = DPFusion("dpfusion-tiny")
    dpf.add_message("user", "He lives in Oslo.", is_private=True)
    dpf.add_message("user", "Where does he live?")
    assert dpf.generate(max_new_tokens=3)["guarantee"].beta == 0.01
    guarantee = dpf.generate(epsilon=8.0, max_new_tokens=3)["guarantee"]
    assert guarantee.epsilon == 8.0
    with pytest.raises(PrivacyParameterError, match="not both"):
        dpf.generate(epsilon=8.0, beta=0.01)


def test_a_narrowing_says_how_the_tagger_is_used() -> None:
    narrowing = Narrowing(PhraseTagger(["Oslo"], label="PLACE"), units="label")
    dpf = DPFusion("dpfusion-tiny", tagger=narrowing)
    dpf.add_message("user", "He lives in Oslo.", is_private=True)
    dpf.run_tagger()
    assert set(dpf.generate(max_new_tokens=2)["lambdas"]) == {"place"}
