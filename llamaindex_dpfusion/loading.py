"""What stands behind the LLM: its engine, and what LlamaIndex wants to know of its model."""

from typing import TYPE_CHECKING

from llama_index.core.base.llms.types import LLMMetadata, MessageRole

from dpfusion_core.backends import TransformersBackend
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.engine import FusionEngine
from dpfusion_core.tool_calling import supports_tools

if TYPE_CHECKING:
    from llamaindex_dpfusion.llm import DPFusionLLM

_UNLIMITED = 32768
"""Context that is said of a model without a limit of its own, in tokens."""


def load_engine(llm: "DPFusionLLM") -> FusionEngine:
    """Load the model that the LLM's fields name and put it into an engine."""
    if isinstance(llm.model, str):
        backend = shared_backend(
            llm.model, device=llm.device, dtype=llm.dtype, device_map=llm.device_map, **llm.model_kwargs
        )
    else:
        backend = TransformersBackend(llm.model, llm.tokenizer)
    return FusionEngine(backend, placeholder=llm.placeholder, ledger=llm.ledger, tagger=llm.tagger)


def describe(llm: "DPFusionLLM") -> LLMMetadata:
    """Return what LlamaIndex wants to know of the model."""
    backend = llm.engine.backend
    return LLMMetadata(
        context_window=llm.context_window or backend.context_length or _UNLIMITED,
        num_output=llm.max_tokens,
        is_chat_model=has_chat_template(llm.engine),
        is_function_calling_model=supports_tools(backend.tokenizer),
        model_name=llm.model if isinstance(llm.model, str) else backend.fingerprint,
        system_role=MessageRole.SYSTEM,
    )


def has_chat_template(engine: FusionEngine) -> bool:
    """Return whether the model reads conversations, not only ready prompts."""
    return bool(getattr(engine.backend.tokenizer, "chat_template", None))
