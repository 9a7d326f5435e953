"""``DPFusionPromptHelper``: packs sealed documents into prompts without ever cutting a seal."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.node_parser.text.token import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.utilities.token_counting import TokenCounter

from dpfusion_core.errors import ViewError, errors_as
from dpfusion_core.messages import Message
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.views import build_views
from llamaindex_dpfusion.options import check_type, checked_fields, named_as
from llamaindex_dpfusion.seals.parts import Seal
from llamaindex_dpfusion.seals.sealer import sealer
from llamaindex_dpfusion.settings import ConfiguredLLM

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_PADDING = 5  # LlamaIndex's own default
_MESSAGE = 8  # tokens that a chat template writes around a message
_SEAMS = 16  # tokens by which a text may be longer than its parts, and what hides other documents


class DPFusionPromptHelper(PromptHelper):
    """Packs texts for a model's context window: marks cost nothing, and pieces of a document are sealed anew.

    LlamaIndex's own helper works too, but it counts marks as text, counts tokens of another model, and in a
    very small window cuts what cannot be attributed any more. Use this one as
    ``Settings.prompt_helper = DPFusionPromptHelper.from_llm(llm)``.

    Example:
        >>> from llama_index.core.prompts import PromptTemplate
        >>> helper = DPFusionPromptHelper(context_window=120, num_output=20)
        >>> text = sealer.seal("word " * 150, "doc-1").text
        >>> chunks = helper.repack(PromptTemplate("Sum up: {context_str}"), [text])
        >>> len(chunks), {s.unit for c in chunks for s in sealer.read(c, is_private=False)}
        (2, {'doc-1'})
    """

    def __init__(
        self, *args: Any, tokenizer: Callable[[str], list[int]] | None = None, **kwargs: Any
    ) -> None:
        owner = type(self).__name__
        with checked_fields(owner):
            super().__init__(*args, **named_as(PromptHelper.__init__, kwargs, owner, "tokenizer"))
        self._token_counter = _TokenCounter(tokenizer=tokenizer)

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPFusionPromptHelper"

    @classmethod
    def from_llm(cls, llm: LLM, **options: Any) -> "DPFusionPromptHelper":
        """Make a helper that counts with the model's own tokenizer.

        Args:
            llm: A :class:`~llamaindex_dpfusion.DPFusionLLM`, or a structured LLM around one.
            **options: Further arguments of LlamaIndex's ``PromptHelper``.

        Raises:
            PrivacyParameterError: If an argument is unknown.
        """
        inner: Any = llm.llm if isinstance(llm, StructuredLLM) else llm
        check_type(inner, ConfiguredLLM, "llm")
        sizes: dict[str, Any] = {"context_window": llm.metadata.context_window}
        sizes["num_output"] = llm.metadata.num_output
        if inner.backend is not None:
            sizes["context_window"] -= _overhead(inner.backend.tokenizer)
            sizes["tokenizer"] = _counter(inner.backend.tokenizer)
        return cls(**{**sizes, **options})

    def repack(
        self, prompt: BasePromptTemplate, text_chunks: Sequence[str], *args: Any, **options: Any
    ) -> list[str]:
        """Join and split texts so that each result fits into the window with the prompt.

        Args:
            prompt: The prompt.
            text_chunks: The texts.
            *args: LlamaIndex's ``padding``, in tokens, ``llm`` and ``tools``, in this order.
            **options: The same by name.

        Raises:
            ViewError: If the prompt leaves no room for any text.
        """
        splitter = self._splitter(prompt, 1, *args, **options)
        packed: list[str] = []
        room = 0
        for text, size in self._pieces(text_chunks, splitter):
            if packed and size <= room:
                packed[-1] += f"\n\n{text}"
                room -= size + 1
            else:
                packed.append(text)
                room = splitter.chunk_size - size - 1
        return packed or [""]

    def truncate(
        self, prompt: BasePromptTemplate, text_chunks: Sequence[str], *args: Any, **options: Any
    ) -> list[str]:
        """Shorten texts so that all of them fit into the window with the prompt; arguments as of :meth:`repack`.

        Raises:
            ViewError: If the prompt leaves no room for any text.
        """
        if not text_chunks:
            return []
        splitter = self._splitter(prompt, len(text_chunks), *args, **options)
        kept = []
        for chunk in text_chunks:
            room, parts = splitter.chunk_size, []
            for text, size in self._pieces([chunk], splitter):
                if size > room:
                    break
                parts.append(text)
                room -= size + 1
            kept.append("\n\n".join(parts))
        return kept

    def _splitter(
        self,
        prompt: BasePromptTemplate,
        parts: int,
        padding: int = _PADDING,
        llm: LLM | None = None,
        tools: "list[BaseTool] | None" = None,
    ) -> TokenTextSplitter:
        try:
            return self.get_text_splitter_given_prompt(prompt, parts, padding=padding, llm=llm, tools=tools)
        except ValueError:
            pass
        raise ViewError(
            f"The prompt and num_output={self.num_output} leave no room for documents in a context window of "
            f"{self.context_window} tokens. Lower max_tokens, shorten the prompt or the history, or use a "
            "model with a larger window. The modes refine and compact want 500 tokens of padding; "
            "tree_summarize and simple_summarize want 5."
        )

    def _pieces(self, text_chunks: Sequence[str], splitter: TokenTextSplitter) -> Iterator[tuple[str, int]]:
        """Yield texts that fit, and their sizes in tokens without marks."""
        count = self._token_counter.get_string_tokens
        for chunk in text_chunks:
            for piece in sealer.pieces(chunk):
                content = piece.content if isinstance(piece, Seal) else piece
                size = count(content)
                if size <= splitter.chunk_size:
                    # What came as a handle goes on as one: events show it.
                    yield (piece.handle or piece.text if isinstance(piece, Seal) else piece), size
                    continue
                for part in splitter.split_text(content):
                    sealed = (
                        sealer.seal(part, piece.unit, tag=piece.tag, remember=True).text
                        if isinstance(piece, Seal)
                        else part
                    )
                    yield sealed, count(part)


class _TokenCounter(TokenCounter):
    """Counts the tokens of messages with its own tokenizer, where LlamaIndex's takes the global one."""

    def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
        return sum(_MESSAGE + self.get_string_tokens(message.content or "") for message in messages)


def _counter(tokenizer: Any) -> Callable[[str], list[int]]:
    def tokens(text: str) -> list[int]:
        with errors_as(ViewError, "The tokenizer cannot read a document ({error})."):
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return tokens


def _overhead(tokenizer: Any) -> int:
    """Return how many tokens the chat template writes around a system and a user message, and some more."""
    if not getattr(tokenizer, "chat_template", None):
        return _SEAMS
    chat = [Message("system", "."), Message("user", ".")]
    try:
        return _SEAMS + len(build_views(chat, tokenizer, fixed_placeholder()).public)
    except ViewError:  # no system messages
        return _SEAMS + len(build_views(chat[1:], tokenizer, fixed_placeholder()).public)
