"""``DPConsensusLLM``: what many documents say, over any LLM of LlamaIndex."""

from collections.abc import Set
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import LLM

from dpfusion_core.consensus import Consensus
from dpfusion_core.consensus.consensus import NAMES
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.options import GenerationOptions, Mechanism
from llamaindex_dpfusion.consensus.answerer import LLMAnswerer
from llamaindex_dpfusion.llm import DPFusionLLM
from llamaindex_dpfusion.options import OWN, check_type
from llamaindex_dpfusion.settings import ENDLESS, ConfiguredLLM

_OF_MODELS = frozenset(
    {"model", "tokenizer", "tagger", "device", "dtype", "device_map", "model_kwargs", "choices"}
)


class DPConsensusLLM(DPFusionLLM):
    """An LLM that tells what many confidential documents say, and never what one says, over any other LLM.

    Each document alone is read by the other LLM, the documents vote under differential privacy, and the other LLM
    writes the answer from what won. No logits are needed, so any LLM of LlamaIndex will do that runs
    inside the trust boundary: it reads the private text. Documents are sealed as for a
    :class:`~llamaindex_dpfusion.DPFusionLLM`; give it many, for what few of them say is never told.

        llm = DPConsensusLLM(Ollama("llama3.2"), epsilon=1.0)
        engine = index.as_query_engine(llm, similarity_top_k=50, node_postprocessors=[DPFusionNodePostprocessor()])

    What the other LLM reads and says of a document goes to no event, span or callback of LlamaIndex's.

    Args:
        llm: Reads each document and writes the answer. How it samples, and how long its answers may be, is set on it.
        at_once: How many documents it reads at the same time.
        answer_timeout: Seconds for its answer about one document; one that takes longer has no vote.
        answer_retries: How many times more it is asked about a document if it fails.
        trace_private: Whether handlers of events and callbacks see documents and what is said of each.
        **kwargs: The budget (``epsilon``, ``delta``, ``responses``, ``neighbours``), ``accounting``, ``on_exhausted``,
            ``max_items``, ``items`` and ``max_tokens`` of :class:`~dpfusion_core.Options`; ``ledger``,
            ``placeholder``, ``timeout``, ``max_retries``, ``unmarked``, ``unit``, ``public_arguments`` and
            ``complete_policy`` as of a :class:`~llamaindex_dpfusion.DPFusionLLM`.

    Raises:
        PrivacyParameterError: If an option is unknown, out of range, or has no effect on a consensus.
    """

    mechanism: Mechanism | None = "consensus"
    llm: LLM = Field(exclude=True, repr=False)
    at_once: int = Field(default=8, gt=0, strict=True)
    answer_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
    answer_retries: int = Field(default=0, ge=0, strict=True)
    trace_private: bool = Field(default=False, strict=True)

    def __init__(self, llm: LLM, **kwargs: Any) -> None:
        check_type(llm, LLM, "llm")
        if isinstance(llm, ConfiguredLLM):
            raise PrivacyParameterError(
                "The LLM that reads documents is asked for plain answers. For a consensus over a model of ours say "
                'DPFusionLLM(..., mechanism="consensus").'
            )
        super().__init__(llm=llm, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPConsensusLLM"

    @classmethod
    def known_fields(cls) -> Set[str]:
        """Return the names of the fields that it may be made with."""
        return cls.model_fields.keys() - _OF_MODELS - (set(OWN) - NAMES) - {"mechanism"}

    @classmethod
    def engine_fields(cls) -> Set[str]:
        """Return the names of the fields that the consensus is made of."""
        answering = {"llm", "at_once", "answer_timeout", "answer_retries", "trace_private"}
        return answering | {"ledger", "placeholder"}

    @property
    def engine(self) -> Consensus:  # type: ignore[override]  # it answers the same calls, but for choices
        """The consensus over the LLM."""
        if self._engine is None:
            answerer = LLMAnswerer(
                self.llm,
                at_once=self.at_once,
                timeout=self.answer_timeout,
                max_retries=self.answer_retries,
                trace_private=self.trace_private,
            )
            self._engine = Consensus(answerer, ledger=self.ledger, placeholder=self.placeholder)
        engine: Consensus = self._engine
        return engine

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the LLM: it takes any number of documents, and calls no tools."""
        told = self.llm.metadata
        return told.model_copy(
            update={
                "context_window": self.context_window or ENDLESS,
                "num_output": self.max_tokens or told.num_output,
                "is_chat_model": True,
                "is_function_calling_model": False,
            }
        )

    def engine_options(
        self, said: dict[str, Any] | None = None, *, is_choice: bool = False
    ) -> GenerationOptions:
        """Return the options of a call; see :class:`~llamaindex_dpfusion.DPFusionLLM`."""
        options = super().engine_options(said, is_choice=is_choice)
        if options.get("mechanism") != "consensus":
            raise PrivacyParameterError("A DPConsensusLLM has one mechanism: leave mechanism out.")
        return options
