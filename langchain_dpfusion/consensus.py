"""``ChatDPConsensus``: what many documents say, over any chat model of LangChain."""

from collections.abc import Set
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.model_profile import ModelProfile
from pydantic import Field

from dpfusion_core.adapters import check_unmarked
from dpfusion_core.adapters.answering import AT_ONCE
from dpfusion_core.consensus import Consensus
from dpfusion_core.consensus.consensus import NAMES
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.options import Mechanism, read_options
from langchain_dpfusion.answering import ChatModelAnswerer
from langchain_dpfusion.options import OWN, engine_options
from langchain_dpfusion.sealed_models import SealedChatModel


class ChatDPConsensus(SealedChatModel):
    """A chat model that tells what many confidential documents say, and never what one says, over any other.

    Each document alone is read by the other chat model, the documents vote under differential privacy, and the
    other model writes the answer from what won. No logits are needed, so any chat model of LangChain will do that
    runs inside the trust boundary: it reads the private text. Documents are marked as for a
    :class:`~langchain_dpfusion.ChatDPFusion`; give it many, for what few of them say is never told.

    What the other model reads and says of a document goes to no callback, tracer or cache.

    Args:
        llm: Reads each document and writes the answer. How it samples, and how long its answers may be, is set on it.
        at_once: How many documents it reads at the same time, in each conversation.
        answer_timeout: Seconds for its answer about one document; one that takes longer has no vote.
        answer_retries: How many times more it is asked about a document if it fails.
        epsilon: What an answer may lose of each privacy unit, in nats.
        delta: Probability for epsilon.
        responses: How many answers epsilon should last for.
        neighbours: ``"zero-out"`` or ``"replace"``.
        accounting: ``"fixed"``: every document pays. ``"adaptive"``: one that had nothing to say pays nothing.
        on_exhausted: With a ledger: ``"raise"`` or ``"zero-out"``.
        ledger: Keeps what each unit has lost over all answers.
        max_items: How many items a document may vote for.
        items: What a document votes for: ``"points"``, ``"phrases"``, ``"json"``, or a function from an answer to its
            items.
        retrieval: ``"covered"`` where each document was taken by its own score alone, as
            :class:`~langchain_dpfusion.DPThresholdRetriever` does: then it is private how many there are.
        max_tokens: What the guarantee says of the length of an answer.
        placeholder: What stands in the place of private text in the public view.
        timeout: Seconds that an answer may take; looked at while it is written.
        max_retries: How many times more a whole answer is tried if it fails; each attempt is charged.
        unmarked: What text without a mark is, as of a :class:`~langchain_dpfusion.ChatDPFusion`.
        trace_private: Whether callbacks, tracers and caches may see private text, and what is said of each document.
        cache_key: As of a :class:`~langchain_dpfusion.ChatDPFusion`.

    Raises:
        PrivacyParameterError: If an argument is unknown, out of range, or has no effect on a consensus.

    Example:
        >>> from langchain_core.language_models import GenericFakeChatModel
        >>> from langchain_core.messages import HumanMessage
        >>> from langchain_dpfusion import private_block
        >>> says = GenericFakeChatModel(messages=iter(["unknown"] + ["gout"] * 30 + ["Most of them have gout."]))
        >>> llm = ChatDPConsensus(llm=says, epsilon=1.0)
        >>> records = [private_block(f"Patient {n} has gout.", unit=f"p-{n}") for n in range(30)]
        >>> answer = llm.invoke([HumanMessage(records), HumanMessage("What do most of them have?")])
        >>> answer.text, [item["item"] for item in answer.response_metadata["dp_fusion"]["items"]]
        ('Most of them have gout.', ['gout'])
    """

    conversations_at_once: ClassVar[int] = 1  # each of them asks for several documents at a time

    mechanism: Mechanism | None = "consensus"
    llm: BaseChatModel = Field(exclude=True, repr=False)
    at_once: int = Field(default=AT_ONCE, gt=0, strict=True)
    answer_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
    answer_retries: int = Field(default=0, ge=0, strict=True)

    @classmethod
    def known_fields(cls) -> Set[str]:
        """Return the names of the fields that it may be made with."""
        return cls.model_fields.keys() - (set(OWN) - NAMES) - {"mechanism"}

    def check_fields(self) -> None:
        """Refuse fields that do not go together, and options that a consensus would refuse.

        Raises:
            PrivacyParameterError: If there are some.
        """
        if isinstance(self.llm, SealedChatModel):
            raise PrivacyParameterError(
                "The model that reads documents is asked for plain answers. For a consensus over a model of ours say "
                "ChatDPFusion(..., mechanism='consensus')."
            )
        check_unmarked(self.unmarked)
        read_options(engine_options(self, {}, None), type(self).__name__)

    @property
    def ready_parts(self) -> dict[str, Any]:
        """The fields that are ready objects, which no name or number says."""
        return {"llm": self.llm, **super().ready_parts}

    @property
    def model_name(self) -> str:
        """Name of the model that reads the documents."""
        names = (getattr(self.llm, name, None) for name in ("model_name", "model", "model_id"))
        return next((name for name in names if isinstance(name, str)), type(self.llm).__name__)

    @property
    def _llm_type(self) -> str:
        return "dpfusion-consensus"

    def _resolve_model_profile(self) -> ModelProfile | None:
        return ModelProfile(text_inputs=True, text_outputs=True, tool_calling=False, structured_output=False)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, as the model that reads the documents counts them."""
        return self.llm.get_token_ids(text)

    def engine_for(self, name: str | None = None) -> Consensus:
        """Return what answers a call.

        Raises:
            UnsupportedError: If a call names a model.
        """
        if name is not None:
            raise UnsupportedError("A ChatDPConsensus has one model, its llm: leave out model.")
        answerer = ChatModelAnswerer(
            self.llm,
            at_once=self.at_once,
            timeout=self.answer_timeout,
            max_retries=self.answer_retries,
            trace_private=self.trace_private,
        )
        return Consensus(answerer, ledger=self.ledger, placeholder=self.placeholder)
