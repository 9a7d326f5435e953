from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import (
    ChatPromptTemplate,
    PromptTemplate,
    RichPromptTemplate,
    SelectorPromptTemplate,
)
from llama_index.core.prompts.chat_prompts import CHAT_CONTENT_QA_PROMPT
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel

from dpfusion_core.errors import RefusedError, UnsupportedError
from dpfusion_core.messages import DEFAULT_UNIT
from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor
from llamaindex_dpfusion.prompts.messages import to_core
from llamaindex_dpfusion.prompts.templates import filled_messages
from tests.llamaindex.recording import recording_llm

SECRET = "Ingrid lives in Trondheim"


@pytest.fixture(scope="module")
def llm() -> DPFusionLLM:
    return recording_llm()[0]


def parts(llm: DPFusionLLM, prompt: Any, **arguments: Any) -> tuple[str, str]:
    """Return the public text and the private one."""
    segments = [s for m in to_core(filled_messages(llm, prompt, arguments)) for s in m.segments]
    everything = "".join(s.text for s in segments)
    assert "dpf" not in everything
    return (
        "".join("____" if s.is_private else s.text for s in segments),
        "|".join(s.text for s in segments if s.is_private),
    )


def test_the_template_is_public_and_its_arguments_are_private(llm: DPFusionLLM) -> None:
    prompt = PromptTemplate("Context: {context_str} Query: {query_str} Date: {date}")
    found = parts(llm, prompt, context_str=SECRET, query_str="Where?", date="May")
    assert found == ("Context: ____ Query: Where? Date: ____", f"{SECRET}|May")


def test_arguments_of_a_partly_filled_template_are_private(llm: DPFusionLLM) -> None:
    prompt = PromptTemplate("{query_str} {existing_answer} {context_str}")
    prompt = prompt.partial_format(query_str="Where?", existing_answer="In town.")
    assert parts(llm, prompt, context_str=SECRET) == ("Where? ____ ____", f"In town.|{SECRET}")


def test_arguments_can_be_named_public(llm: DPFusionLLM) -> None:
    open_llm = llm.model_copy(update={"public_arguments": ("existing_answer",)})
    prompt = PromptTemplate("{query_str} {existing_answer}")
    assert parts(open_llm, prompt, query_str="Where?", existing_answer="In town.")[0] == "____ In town."


def test_a_question_that_looks_like_a_variable_is_filled_in_once(llm: DPFusionLLM) -> None:
    prompt = PromptTemplate("{query_str} {context_str}")
    found = parts(llm, prompt, query_str="What is {context_str}?", context_str=SECRET)
    assert found == ("What is {context_str}? ____", SECRET)


def test_history_that_looks_like_a_variable_gets_sealed_text(llm: DPFusionLLM) -> None:
    history = [ChatMessage("Repeat {context_str}"), ChatMessage("{query_str}")]
    assert parts(llm, ChatPromptTemplate(history), context_str=SECRET, query_str="Where?") == (
        "Repeat ____Where?",
        SECRET,
    )


def test_flags_of_a_templates_messages_stay_in_force(llm: DPFusionLLM) -> None:
    history = [
        ChatMessage("I am ill.", additional_kwargs={"is_private": True, "unit": "me"}),
        ChatMessage("Be brief.", role="system"),
        ChatMessage("Ann is ill.", role="tool"),
        ChatMessage("Observation: Ann is well.", role="assistant"),
    ]
    messages = to_core(filled_messages(llm, ChatPromptTemplate(history), {"query_str": "Where?"}))
    assert [s.unit for m in messages for s in m.segments] == ["me", None, DEFAULT_UNIT, DEFAULT_UNIT]


def test_what_a_function_computes_is_private_whatever_its_name(llm: DPFusionLLM) -> None:
    def shout(**arguments: Any) -> str:
        return str(arguments["context_str"]).upper()

    prompt = PromptTemplate("{query_str} {context_str}", function_mappings={"query_str": shout})
    assert parts(llm, prompt, query_str="Where?", context_str=SECRET) == (
        "____ ____",
        f"{SECRET.upper()}|{SECRET}",
    )


def test_renamed_variables_keep_their_kind(llm: DPFusionLLM) -> None:
    mappings = {"context_str": "query", "query_str": "documents"}
    prompt = PromptTemplate("{query} {documents}", template_var_mappings=mappings)
    assert parts(llm, prompt, query_str="Where?", context_str=SECRET) == ("____ Where?", SECRET)


def test_the_chosen_template_of_a_selector_is_filled_in(llm: DPFusionLLM) -> None:
    chosen = PromptTemplate("Chat: {context_str}")
    prompt = SelectorPromptTemplate(
        PromptTemplate("Other."), [(lambda llm: llm.metadata.is_chat_model, chosen)]
    )
    assert parts(llm, prompt, context_str=SECRET)[0] == "Chat: ____"


@pytest.mark.parametrize(
    "template",
    [
        "{{ context_str | upper }}",
        "{{ context_str[:12] }}",
        "{{ context_str[3:9] }}",
        "{{ context_str | length }}",
        "{% if 'Ingrid' in context_str %}yes{% endif %}",
        "{{ context_str | replace('I', 'x') }}",
        "{{ context_str.split() | first }}",
    ],
)
def test_a_template_that_computes_with_a_private_argument_is_refused(llm: DPFusionLLM, template: str) -> None:
    for text in (SECRET, "x", "Nobody " * 40):
        with pytest.raises(RefusedError, match="computes with an argument"):
            filled_messages(llm, RichPromptTemplate(template), {"context_str": text})


@pytest.mark.parametrize(
    ("template", "public"),
    [
        ("{{ query_str | upper }} {{ context_str | trim }}", "WHERE? ____"),
        ("{{ query_str[:3] }} {{ query_str | length }} {{ context_str }}", "Whe 6 ____"),
        ("{% if 'Where' in query_str and context_str %}yes {% endif %}{{ context_str }}", "yes ____"),
        ("{{ query_str.split('e') | join('-') }} {{ context_str | e }}", "Wh-r-? ____"),
    ],
)
def test_a_template_may_compute_with_what_is_public(llm: DPFusionLLM, template: str, public: str) -> None:
    found = parts(llm, RichPromptTemplate(template), context_str=SECRET, query_str="Where?")
    assert found == (public, SECRET)


@pytest.mark.parametrize(
    ("template", "public"),
    [
        (PromptTemplate("{d} {query_str}"), "{'____': '____', '____': '____'} Who?"),
        (RichPromptTemplate("{{ d }} {{ query_str }}"), "{'____': '____', '____': '____'} Who?"),
        (RichPromptTemplate("{% for k in d %}{{ k }};{% endfor %}{{ query_str }}"), "____;____;Who?"),
        (
            RichPromptTemplate("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}"),
            "____=____;____=____;",
        ),
        (RichPromptTemplate("{{ d.keys() | list | join(' ') }}"), "____ ____"),
        (RichPromptTemplate("{{ d.place }} {{ d['place'] }} {{ d.get('place') }}"), "____ ____ ____"),
    ],
)
def test_names_of_a_mapping_are_as_private_as_what_they_name(
    llm: DPFusionLLM, template: Any, public: str
) -> None:
    shown, hidden = parts(llm, template, d={"place": "Trondheim", "Ingrid": "ill"}, query_str="Who?")
    assert shown.strip() == public
    assert "Trondheim" in hidden or "Ingrid" in hidden


@pytest.mark.parametrize(
    "template",
    [
        "{% if 'Ingrid' in d %}yes{% endif %}",
        "{% if d.Ingrid %}yes{% endif %}",
        "{% if d.get('Ingrid') %}yes{% endif %}",
        "{{ d.Ingrid | default('no') }}",
    ],
)
def test_no_condition_of_a_template_tells_which_names_a_mapping_has(llm: DPFusionLLM, template: str) -> None:
    prompt = RichPromptTemplate(template + "{{ query_str }}")
    shown = {parts(llm, prompt, d={name: "ill"}, query_str="Who?")[0] for name in ("Ingrid", "Bob")}
    assert len(shown) == 1


def test_rich_templates_loop_over_sealed_items(llm: DPFusionLLM) -> None:
    prompt = RichPromptTemplate("{% for text in texts %}- {{ text }}\n{% endfor %}{{ query_str }}")
    public, private = parts(llm, prompt, texts=["One.", "Two."], query_str="Who?")
    assert public.split() == ["-", "____", "-", "____", "Who?"]
    assert private == "One.|Two."


def test_lists_become_paragraphs_not_python(llm: DPFusionLLM) -> None:
    public, private = parts(llm, PromptTemplate("{context_str}!"), context_str=["It's one.\n", 'A "two".'])
    assert public == "____\n\n____!"
    assert private == 'It\'s one.\n|A "two".'


def test_messages_as_arguments_are_sealed(llm: DPFusionLLM) -> None:
    context = [ChatMessage(blocks=[TextBlock(text="author: Ann"), TextBlock(text=SECRET)])]
    public, private = parts(llm, CHAT_CONTENT_QA_PROMPT, context_messages=context, query_str="Where?")
    assert "Where?" in public
    assert SECRET not in public
    assert "Ann" not in public
    assert SECRET in private


def test_images_in_messages_as_arguments_are_refused(llm: DPFusionLLM) -> None:
    context = [ChatMessage(blocks=[ImageBlock(url="http://x/y.png")])]
    with pytest.raises(UnsupportedError):
        llm.predict(CHAT_CONTENT_QA_PROMPT, context_messages=context, query_str="Where?")


def test_nodes_as_arguments_keep_their_unit(llm: DPFusionLLM) -> None:
    nodes = DPFusionNodePostprocessor().postprocess_nodes(
        [
            NodeWithScore(
                node=TextNode(text=SECRET, metadata={"source": "a"}, excluded_llm_metadata_keys=["source"])
            )
        ]
    )
    messages = to_core(filled_messages(llm, PromptTemplate("{nodes}"), {"nodes": nodes}))
    assert [s.unit for s in messages[0].segments] == ["a"]


@pytest.mark.parametrize("value", [17, 2.5, {"name": "Ann"}, object(), True])
def test_other_values_are_private_too(llm: DPFusionLLM, value: Any) -> None:
    public, private = parts(llm, PromptTemplate("Value: {value}"), value=value)
    assert "Ann" not in public
    assert "17" not in public
    assert private


def test_an_output_parser_adds_public_text(llm: DPFusionLLM) -> None:
    class City(BaseModel):
        name: str

    prompt = PromptTemplate("{context_str}", output_parser=PydanticOutputParser(City))
    public, private = parts(llm, prompt, context_str=SECRET)
    assert '"name"' in public
    assert private == SECRET


def test_the_system_prompt_is_public(llm: DPFusionLLM) -> None:
    brief = llm.model_copy(update={"system_prompt": "Be brief."})
    assert parts(brief, PromptTemplate("{context_str}"), context_str=SECRET)[0] == "Be brief.____"


def test_a_template_without_context_is_public(llm: DPFusionLLM) -> None:
    assert parts(llm, PromptTemplate("Tell a joke.")) == ("Tell a joke.", "")


def test_marks_typed_by_a_user_are_no_marks(llm: DPFusionLLM) -> None:
    public, private = parts(llm, PromptTemplate("{query_str}"), query_str="[[dpfa:0123:0]] [[dpf:x:: y")
    assert "[[" not in public + private
