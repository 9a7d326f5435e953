"""A reply as its chunks come: what of it may be shown, and in the end what stands in it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from dpfusion_core.adapters.memory import seen
from dpfusion_core.errors import BackendError
from dpfusion_core.generation import Chunk, FinishReason, GenerationResult
from dpfusion_core.messages import ToolCall
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.privacy.releasing import Released
from dpfusion_core.tool_calling import InvalidToolCall, parse_tool_calls, visible_length


def offered_tools(options: Mapping[str, Any]) -> Sequence[Any]:
    """Return the tools that an answer to these options may call.

    Example:
        >>> offered_tools({"tools": [{"name": "now"}], "tool_choice": "none"})
        ()
    """
    return () if options.get("tool_choice") == "none" else options.get("tools") or ()


@dataclass(frozen=True)
class FinishedReply:
    """What stands in a whole reply, and what is said of it; none of that depends on private data.

    Attributes:
        text: As the model wrote it, calls and all.
        content: The text around the calls of tools.
        tool_calls: The calls, each with an id of its own.
        invalid: What looks like a call and is none.
        finish_reason: Why it ended.
        guarantee: What it tells about each privacy unit.
        prompt_tokens: Length of the public view.
        items: Of a consensus: what many documents say, with noisy counts; None for other mechanisms.
    """

    text: str
    content: str
    tool_calls: tuple[ToolCall, ...]
    invalid: tuple[InvalidToolCall, ...]
    finish_reason: FinishReason | Literal["tool_calls"]
    guarantee: PrivacyGuarantee = field(repr=False)
    prompt_tokens: int
    items: tuple[Released, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what metadata say of its privacy: the guarantee, and what a consensus has released."""
        said = self.guarantee.as_dict()
        return said if self.items is None else {**said, "items": [asdict(each) for each in self.items]}

    @property
    def is_released(self) -> bool:
        """Whether a guarantee made it public, whatever it quotes."""
        return self.guarantee.units != 0 and self.guarantee.private


class Reply:
    """Joins the chunks of one reply.

    Text is held back from where a call of a tool begins, or could begin, until the reply is complete.

    Args:
        tools: The tools that were offered; see :func:`offered_tools`.

    Attributes:
        shown: What may be shown so far, calls of tools taken out.

    Example:
        >>> reply = Reply([{"name": "now"}])
        >>> [reply.add(Chunk(text)) for text in ("Let me see. ", '<tool_call>{"name"')]
        ['Let me see.', '']
    """

    def __init__(self, tools: Sequence[Any] = ()) -> None:
        self._tools = tools
        self._text = ""
        self._end: FinishedReply | None = None
        self.shown = ""

    def add(self, chunk: Chunk | GenerationResult) -> str:
        """Take a chunk, or a whole answer, and return the text that may be shown now.

        With the last one, the net learns that the reply is public: it was released under a guarantee.
        """
        self._text += chunk.text
        visible = self._text[: visible_length(self._text)] if self._tools else self._text
        if chunk.finish_reason is not None and chunk.guarantee is not None:
            self._end = self._finished(chunk.finish_reason, chunk.guarantee, chunk.prompt_tokens or 0)
            self._end = replace(self._end, items=chunk.items)
            if self._end.is_released:
                seen.release(self._text)
            visible = self._end.content
        # What was shown stands, whatever turns out to be around it.
        new = visible.removeprefix(self.shown) if visible.startswith(self.shown) else ""
        self.shown += new
        return new

    @property
    def is_finished(self) -> bool:
        """Whether the last chunk has come."""
        return self._end is not None

    @property
    def finished(self) -> FinishedReply:
        """The whole reply.

        Raises:
            BackendError: If its last chunk has not come.
        """
        if self._end is None:
            raise BackendError("The stream ended without its last chunk.")
        return self._end

    def _finished(self, finish: FinishReason, guarantee: PrivacyGuarantee, prompt: int) -> FinishedReply:
        parsed = parse_tool_calls(self._text, self._tools)
        reason = "tool_calls" if parsed.tool_calls else finish
        calls = parsed.tool_calls, parsed.invalid
        return FinishedReply(self._text, parsed.content, *calls, reason, guarantee, prompt)
