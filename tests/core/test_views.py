"""Views: what each prompt shows, and that the public one is a function of the redacted text alone."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dpfusion_core import Message, Segment, ViewError, fixed_placeholder, length_preserving_placeholder
from dpfusion_core.tiny import model_path
from dpfusion_core.views import Views, arrange, build_views, render, views_of_contexts
from tests.core.models import CharTokenizer

BLANK = fixed_placeholder()
texts = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def tiny() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


def text_of(ids: tuple[int, ...], tokenizer: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def test_each_private_view_reveals_its_unit_alone(tiny: Any) -> None:
    messages = [
        Message("user", "Ann is ill.", is_private=True, unit="a"),
        Message(
            "user", [Segment("Public. "), Segment("Bob is rich.", True, "b"), Segment(" Ann?", True, "a")]
        ),
        Message("user", "Who?"),
    ]
    views = build_views(messages, tiny, BLANK)
    shown = {unit: text_of(ids, tiny) for unit, ids in views.private.items()}
    assert views.units == ("a", "b")
    assert ("Ann is ill." in shown["a"], "Bob" in shown["a"], " Ann?" in shown["a"]) == (True, False, True)
    assert ("Ann" in shown["b"], "Bob is rich." in shown["b"]) == (False, True)
    public = text_of(views.public, tiny)
    assert ("Ann" in public, "Bob" in public, "Public. ____" in public) == (False, False, True)


@given(secret=texts, other=texts, before=texts, after=texts)
def test_public_view_does_not_depend_on_the_secret(
    tiny: Any, secret: str, other: str, before: str, after: str
) -> None:
    def views(text: str) -> Views:
        content = [Segment(before), Segment(text, True), Segment(after)]
        return build_views([Message("user", content)], tiny, BLANK)

    assert views(secret).public == views(other).public
    redacted = build_views([Message("user", before + "____" + after)], tiny, BLANK)
    assert views(secret).public == redacted.public


@given(secret=texts, before=texts, after=texts)
def test_private_view_is_the_plain_prompt(tiny: Any, secret: str, before: str, after: str) -> None:
    content = [Segment(before), Segment(secret, True), Segment(after)]
    views = build_views([Message("user", content)], tiny, BLANK)
    assert (
        views.private["private"]
        == build_views([Message("user", before + secret + after)], tiny, BLANK).public
    )


def test_fixed_placeholder_hides_the_length_and_the_other_shows_nothing_but_it(tiny: Any) -> None:
    short, long = Message("user", "Al", is_private=True), Message("user", "Alexandria", is_private=True)
    assert render([short], tiny, BLANK) == render([long], tiny, BLANK)
    keep = length_preserving_placeholder()
    assert "\n__<" in render([short], tiny, keep)
    assert "\n__________<" in render([long], tiny, keep)


def test_system_message_in_the_middle_and_tools(tiny: Any) -> None:
    messages = [Message("user", "one"), Message("system", "two"), Message("tool", "three")]
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    text = render(messages, tiny, BLANK, tools=[tool])
    assert text.index("one") < text.index("two") < text.index("three")
    assert "look_up" in text


def test_last_assistant_message_is_continued_not_answered(tiny: Any) -> None:
    messages = [Message("user", "Where?"), Message("assistant", "The city is")]
    views = build_views(messages, tiny, BLANK)
    assert views.is_continuation
    assert text_of(views.public, tiny).endswith("The city is")
    answered = build_views(messages[:1], tiny, BLANK)
    assert not answered.is_continuation
    assert text_of(answered.public, tiny).endswith("assistant\n")


def test_private_prefix_of_the_assistant_is_hidden_in_the_public_view(tiny: Any) -> None:
    messages = [Message("user", "Where?"), Message("assistant", [Segment("In "), Segment("Oslo", True)])]
    views = build_views(messages, tiny, BLANK)
    assert text_of(views.public, tiny).endswith("In ____")
    assert text_of(views.private["private"], tiny).endswith("In Oslo")


def test_no_second_bos() -> None:
    words = {"<s>": 0, "[UNK]": 1, "hello": 2}
    core = FastTokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    tokenizer.chat_template = "{{ bos_token }} {{ messages[0]['content'] }}"
    assert build_views([Message("user", "hello")], tokenizer, BLANK).public == (0, 2)
    assert views_of_contexts("<s> hello", "<s> hello", tokenizer).public == (0, 2)


def test_ready_contexts_give_the_ids_of_the_views(tiny: Any) -> None:
    messages = [Message("user", "Ann is ill.", is_private=True), Message("user", "Who?")]
    ready = views_of_contexts(render(messages, tiny, BLANK, {"private"}), render(messages, tiny, BLANK), tiny)
    built = build_views(messages, tiny, BLANK)
    assert (ready.public, ready.private) == (built.public, built.private)


SECRET = "Jane Roe"
PUBLIC = "zebra crossing"
CHAT = [Message("user", PUBLIC), Message("system", SECRET, is_private=True), Message("user", "now")]


def refusing(template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    tokenizer.chat_template = template
    return tokenizer


def test_template_that_refuses_says_which_message_and_its_own_fixed_words() -> None:
    template = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    template += "{{ raise_exception('System first!') }}{% endif %}"
    template += "{% if 'now' in m.content and loop.first %}{{ raise_exception('Not joined!') }}{% endif %}"
    template += "{{ m.content }}{% endfor %}"
    with pytest.raises(ViewError, match=r"message 2 of 3 \(role 'system'\).*System first!") as caught:
        build_views(CHAT, refusing(template), BLANK)
    assert_no_text(caught.value)


ALTERNATING = """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}<{{ m.role }}>{{ m.content }}
{%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""


def test_a_template_that_wants_roles_to_alternate_gets_them() -> None:
    """Gemma's and Mistral's kind, and what retrieval chains send."""
    messages = [
        Message("system", "Be brief."),
        Message("user", SECRET, is_private=True, unit="doc-1"),
        Message("user", "Bob", is_private=True, unit="doc-2"),
        Message("user", "Who?"),
        Message("assistant", "Well, "),
    ]
    tokenizer = refusing(ALTERNATING)
    views = build_views(messages, tokenizer, BLANK)
    told = {unit: tokenizer.decode(ids) for unit, ids in {"": views.public, **views.private}.items()}
    form = "<user>Be brief.\n\n{}\n\n{}\n\nWho?<assistant>Well, "
    assert told == {
        "": form.format("____", "____"),
        "doc-1": form.format(SECRET, "____"),
        "doc-2": form.format("____", "Bob"),
    }
    assert views.is_continuation


def test_what_a_template_accepts_stays_as_it_is(tiny: Any) -> None:
    assert arrange(CHAT, tiny, BLANK) is CHAT
    lenient = refusing("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    assert arrange(CHAT, lenient, BLANK) is CHAT


def test_template_that_quotes_content_is_not_quoted() -> None:
    template = "{{ raise_exception('Cannot read ' + messages[0].content) }}"
    with pytest.raises(ViewError, match="message 1 of 3") as caught:
        build_views(CHAT, refusing(template), BLANK)
    assert_no_text(caught.value)


def test_template_that_refuses_only_the_private_text_is_not_quoted() -> None:
    template = (
        "{% for m in messages %}{% if 'Roe' in m.content %}{{ raise_exception('Roe seen') }}{% endif %}"
    )
    template += "{{ m.content }}{% endfor %}"
    with pytest.raises(ViewError, match="message 2 of 3") as caught:
        build_views(CHAT, refusing(template), BLANK)
    assert_no_text(caught.value)


def test_continuation_that_the_template_drops_is_refused_without_text() -> None:
    messages = [Message("user", SECRET, is_private=True), Message("assistant", PUBLIC)]
    with pytest.raises(ViewError, match="refuses") as caught:
        build_views(messages, refusing("{{ messages[0].content }}"), BLANK)
    assert_no_text(caught.value)


def test_missing_template_and_failing_tokenizer(tmp_path: Path) -> None:
    class NoTemplate(CharTokenizer):
        chat_template = None  # type: ignore[assignment]

    class Failing(CharTokenizer):
        def __call__(self, text: str, /, **options: Any) -> dict[str, list[int]]:
            raise ValueError(f"cannot read {text}")

    with pytest.raises(ViewError, match="no chat template"):
        build_views(CHAT, NoTemplate(), BLANK)
    with pytest.raises(ViewError, match="tokenizer cannot read") as caught:
        build_views(CHAT, Failing(), BLANK)
    assert_no_text(caught.value)


def test_empty_conversation_prompt_and_placeholder(tiny: Any) -> None:
    with pytest.raises(ViewError, match="conversation is empty"):
        build_views([], tiny, BLANK)
    with pytest.raises(ViewError, match="empty after tokenisation"):
        views_of_contexts("", "", tiny)
    with pytest.raises(ViewError, match="placeholder"):
        fixed_placeholder("")
    with pytest.raises(ViewError, match="one character"):
        length_preserving_placeholder("__")


def test_repr_of_views_shows_no_private_ids(tiny: Any) -> None:
    views = build_views([Message("user", SECRET, is_private=True)], tiny, BLANK)
    assert str(views.private["private"])[1:-1] not in repr(views)


def assert_no_text(error: BaseException | None) -> None:
    """Assert that neither an error nor what it was raised from quotes a message."""
    while error is not None:
        assert "Jane" not in str(error)
        assert "Roe" not in str(error)
        assert "zebra" not in str(error)
        error = error.__cause__ or error.__context__


def test_length_of_a_private_view_is_not_logged(tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    from transformers.utils import logging

    fresh = AutoTokenizer.from_pretrained(model_path())  # it warns once
    logging.get_logger("transformers").propagate = True
    try:
        build_views([Message("user", "word " * 5000, is_private=True)], fresh, BLANK)
        assert not caplog.records
        fresh("word " * 5000)
        assert "longer than" in caplog.text  # so that this test would notice
    finally:
        logging.get_logger("transformers").propagate = False


def test_views_know_a_unit_by_one_id() -> None:
    views = Views([1, 2], {" HR/cv-3": [1, 3]})  # type: ignore[arg-type, dict-item]
    assert views.prompts == ((1, 2), (1, 3))
    assert views.units == ("hr/cv-3",)
    with pytest.raises(ViewError, match="spellings of one unit"):
        Views((1, 2), {"HR/cv-3": (1, 3), "hr/cv-3": (1, 4)})
    with pytest.raises(ViewError, match="id of a unit"):
        Views((1, 2), {" ": (1, 3)})
