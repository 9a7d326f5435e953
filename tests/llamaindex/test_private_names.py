"""The names of llama-index-core that this package overrides or reads though they are not public."""

import inspect
from typing import Any

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.response_synthesizers.base import BaseSynthesizer
from llama_index.core.settings import Settings
from llama_index_instrumentation import dispatcher

from tests.llamaindex.recording import recording_llm

SIGNATURES = {
    (LLM, "_get_messages"): ["self", "prompt", "prompt_args"],
    (LLM, "_get_prompt"): ["self", "prompt", "prompt_args"],
    (LLM, "_extend_messages"): ["self", "messages"],
    (LLM, "_extend_prompt"): ["self", "formatted_prompt"],
    (LLM, "_log_template_data"): ["self", "prompt", "prompt_args"],
    (LLM, "_parse_output"): ["self", "output"],
    (FunctionCallingLLM, "_prepare_chat_with_tools"): [
        "self",
        "tools",
        "user_msg",
        "chat_history",
        "verbose",
        "allow_parallel_tool_calls",
        "tool_required",
        "kwargs",
    ],
    (BaseNodePostprocessor, "_postprocess_nodes"): ["self", "nodes", "query_bundle"],
    (BaseNodePostprocessor, "_apostprocess_nodes"): ["self", "nodes", "query_bundle"],
    (BaseRetriever, "_retrieve"): ["self", "query_bundle"],
    (BaseRetriever, "_aretrieve"): ["self", "query_bundle"],
    (PromptMixin, "_get_prompts"): ["self"],
    (PromptMixin, "_get_prompt_modules"): ["self"],
    (PromptMixin, "_update_prompts"): ["self", "prompts_dict"],
}
USED = {
    LLM: ["_get_messages", "_log_template_data", "_parse_output"],
    BaseSynthesizer: ["_prompt_helper", "_llm", "_streaming"],
    PromptHelper: ["_token_counter"],
}
ADVICE = (
    "llama-index-core has moved or changed {name}, which llamaindex_dpfusion depends on to keep private text "
    "sealed. Do not widen the version range in pyproject.toml before it has been adapted."
)


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=lambda value: getattr(value, "__name__", value))
def test_a_private_method_is_where_it_was(owner: Any, name: str) -> None:
    advice = ADVICE.format(name=f"{owner.__name__}.{name}")
    assert hasattr(owner, name), advice
    assert list(inspect.signature(getattr(owner, name)).parameters) == SIGNATURES[owner, name], advice


@pytest.mark.parametrize("owner", USED, ids=lambda value: value.__name__)
def test_llama_index_still_uses_what_is_overridden(owner: Any) -> None:
    source = inspect.getsource(owner)
    for name in USED[owner]:
        assert source.count(f"self.{name}") >= 1, ADVICE.format(name=f"{owner.__name__}.{name}")


def test_spans_are_still_kept_off_in_the_same_way() -> None:
    advice = ADVICE.format(name="the mark of traced methods")
    assert dispatcher.DISPATCHER_SPAN_DECORATED_ATTR == "__dispatcher_span_decorated__", advice
    assert "hasattr(func, DISPATCHER_SPAN_DECORATED_ATTR)" in inspect.getsource(dispatcher.Dispatcher.span), (
        advice
    )


def test_templates_still_have_the_fields_that_are_emptied() -> None:
    fields = BasePromptTemplate.model_fields
    for name in ("kwargs", "function_mappings", "template_var_mappings", "output_parser"):
        assert name in fields, ADVICE.format(name=f"BasePromptTemplate.{name}")


def test_settings_still_hold_a_prompt_helper() -> None:
    assert hasattr(Settings, "_prompt_helper"), ADVICE.format(name="Settings._prompt_helper")


def test_no_method_of_the_llm_is_wrapped_in_a_span() -> None:
    """Such a span would hold messages and template arguments."""
    from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor, DPFusionRetriever
    from llamaindex_dpfusion.answers.structured import DPFusionStructuredLLM

    for cls in (DPFusionLLM, DPFusionStructuredLLM, DPFusionNodePostprocessor, DPFusionRetriever):
        for name, method in vars(cls).items():
            assert type(method).__name__ != "FunctionWrapper", f"{cls.__name__}.{name}"


def test_components_still_write_what_is_read_of_them() -> None:
    from llama_index.core.agent.react.types import ObservationReasoningStep
    from llama_index.core.agent.workflow import CodeActAgent
    from llama_index.core.memory import ChatSummaryMemoryBuffer
    from llama_index.core.memory.memory import DEFAULT_MEMORY_BLOCKS_TEMPLATE
    from llama_index.core.postprocessor.rankGPT_rerank import RankGPTRerank

    from llamaindex_dpfusion.prompts.components import parts_of, passages

    def is_private(message: ChatMessage) -> bool:
        return all(private for _, private in parts_of(message, message.content or ""))

    observation = ObservationReasoningStep(observation="Ann is ill.").get_content()
    assert is_private(ChatMessage(observation)), ADVICE.format(name="ObservationReasoningStep")
    source = inspect.getsource(CodeActAgent)
    assert 'f"Result of executing the code given:' in source, ADVICE.format(name="CodeActAgent")
    assert is_private(ChatMessage("Result of executing the code given:\n\nAnn is ill."))
    history = [ChatMessage("Ann is ill.")]
    transcript = ChatSummaryMemoryBuffer._get_prompt_to_summarize(None, history)  # type: ignore[arg-type]
    assert is_private(ChatMessage(transcript)), ADVICE.format(name="ChatSummaryMemoryBuffer")
    memory = DEFAULT_MEMORY_BLOCKS_TEMPLATE.format(memory_blocks=[("known", [TextBlock(text="Ann is ill.")])])
    [said] = [
        part for part, private in parts_of(ChatMessage(role="system"), f"Be brief. {memory}") if private
    ]
    assert "Ann is ill." in said, ADVICE.format(name="Memory")
    items = {"query": "Who?", "hits": [{"content": "Ann is ill."}, {"content": "Bob is ill."}]}
    asked = RankGPTRerank(llm=recording_llm()[0]).create_permutation_instruction(items)
    shown = [asked[i].content for i in sorted(passages(asked))]
    assert shown == ["[1] Ann is ill.", "[2] Bob is ill."], ADVICE.format(name="RankGPTRerank")
