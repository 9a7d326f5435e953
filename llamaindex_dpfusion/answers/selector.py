"""``DPFusionSelector``: where a question is sent, as a choice."""

from collections.abc import Sequence

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from dpfusion_core.errors import PrivacyParameterError
from llamaindex_dpfusion.options import check_type
from llamaindex_dpfusion.settings import ConfiguredLLM

_PROMPT = PromptTemplate(
    "Some sources are given below, numbered from 1 to {num_choices}:\n{tools_str}\n"
    "Which of them is the most likely to answer this question? {query_str}\n"
    "Answer with its number alone."
)


class DPFusionSelector(BaseSelector):
    """Selects one of several tools or indices for a question; a whole selection costs what one token costs.

    Use it as ``RouterQueryEngine(selector=DPFusionSelector(llm), ...)``. The descriptions of the choices are public,
    and so is the question, but for what is sealed in it; in public the selection costs nothing.

    Args:
        llm: Selects.
        prompt: Has the variables ``num_choices``, ``tools_str`` (the numbered descriptions) and ``query_str``, and asks
            for a number.

    Raises:
        PrivacyParameterError: If ``llm`` or ``prompt`` is of another kind.

    Example:
        >>> from dpfusion_core import FusionEngine, ScriptedBackend
        >>> from llamaindex_dpfusion import DPFusionLLM
        >>> llm = DPFusionLLM(engine=FusionEngine(ScriptedBackend.saying("2")), unmarked="public")
        >>> choices = ["letters of customers", "invoices"]
        >>> DPFusionSelector(llm).select(choices, "How much was it?").selections[0].index
        1
    """

    def __init__(self, llm: ConfiguredLLM, prompt: BasePromptTemplate = _PROMPT) -> None:
        self._llm = check_type(llm, ConfiguredLLM, "llm")
        if "choices" not in llm.known_fields():
            raise PrivacyParameterError("A selection is a choice of a model of our own: give a DPFusionLLM.")
        self._prompt = check_type(prompt, BasePromptTemplate, "prompt")

    def _get_prompts(self) -> PromptDictType:
        return {"prompt": self._prompt}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._prompt = prompts.get("prompt", self._prompt)

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        if len(choices) == 1:
            return _selected("1")
        arguments = _arguments(choices, query)
        return _selected(self._asked(choices).predict(self._prompt, **arguments))

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        if len(choices) == 1:
            return _selected("1")
        arguments = _arguments(choices, query)
        return _selected(await self._asked(choices).apredict(self._prompt, **arguments))

    def _asked(self, choices: Sequence[ToolMetadata]) -> ConfiguredLLM:
        if not choices:
            raise PrivacyParameterError("There is nothing to select from.")
        return self._llm.model_copy(update={"choices": [str(i + 1) for i in range(len(choices))]})


def _arguments(choices: Sequence[ToolMetadata], query: QueryBundle) -> dict[str, str | int]:
    described = "\n".join(f"({i}) {choice.description}" for i, choice in enumerate(choices, 1))
    return {"num_choices": len(choices), "tools_str": described, "query_str": query.query_str}


def _selected(number: str) -> SelectorResult:
    reason = "It was chosen under a privacy guarantee, which gives no reasons."
    return SelectorResult(selections=[SingleSelection(index=int(number) - 1, reason=reason)])
