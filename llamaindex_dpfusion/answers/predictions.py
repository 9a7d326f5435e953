"""Answers to filled in prompt templates, whole or in pieces."""

from collections.abc import Callable
from dataclasses import dataclass, field

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen

from dpfusion_core.errors import UnsupportedError
from llamaindex_dpfusion.answers import events
from llamaindex_dpfusion.answers.responses import adeltas, deltas
from llamaindex_dpfusion.prompts.messages import shown, shown_text, to_core, written_in
from llamaindex_dpfusion.prompts.segments import segments_of
from llamaindex_dpfusion.settings import ConfiguredLLM


@dataclass(frozen=True)
class Prediction:
    """The answer to a filled in template.

    Attributes:
        llm: Answers it.
        source: The filled in template: sealed messages, or a sealed prompt for a model without a chat template.
        parse: Makes of the whole answer what the output parser makes of it.
    """

    llm: ConfiguredLLM = field(repr=False)
    source: list[ChatMessage] | str = field(repr=False)
    parse: Callable[[str], str] = field(repr=False)

    @property
    def shown(self) -> str:
        """The filled in template as traces may see it.

        Raises:
            RefusedError: If the LLM's rule refuses it: then no trace may see it.
        """
        placeholder = self.llm.engine.placeholder
        if isinstance(self.source, str):
            written = written_in([ChatMessage(self.source)])
            return shown_text(segments_of(written, self.llm.rule()), placeholder)
        return "\n".join(str(m) for m in shown(to_core(self.source, self.llm.rule()), placeholder))

    def whole(self) -> str:
        """Return the parsed answer."""

        def work() -> str:
            if isinstance(self.source, str):
                return self.parse(self.llm.complete(self.source, formatted=True).text)
            return self.parse(self.llm.chat(self.source).message.content or "")

        return events.predict(self.llm, "predict", self.shown, work)

    async def awhole(self) -> str:
        """Return the parsed answer without blocking the event loop."""

        async def work() -> str:
            if isinstance(self.source, str):
                return self.parse((await self.llm.acomplete(self.source, formatted=True)).text)
            return self.parse((await self.llm.achat(self.source)).message.content or "")

        return await events.apredict(self.llm, "apredict", self.shown, work)

    def pieces(self) -> TokenGen:
        """Return a generator over the answer; closing it frees the model."""

        def work() -> TokenGen:
            if isinstance(self.source, str):
                return deltas(self.llm.stream_complete(self.source, formatted=True))
            return deltas(self.llm.stream_chat(self.source))

        return events.predict(self.llm, "stream", self.shown, work)

    async def apieces(self) -> TokenAsyncGen:
        """Return an async generator over the answer; closing it frees the model."""

        async def work() -> TokenAsyncGen:
            if isinstance(self.source, str):
                return adeltas(await self.llm.astream_complete(self.source, formatted=True))
            return adeltas(await self.llm.astream_chat(self.source))

        return await events.apredict(self.llm, "astream", self.shown, work)


def refuse_parsers(llm: ConfiguredLLM, prompt: BasePromptTemplate) -> None:
    """Refuse to answer in pieces what is to be parsed.

    Raises:
        UnsupportedError: If the template or the LLM has an output parser.
    """
    if prompt.output_parser is not None or llm.output_parser is not None:
        raise UnsupportedError("Output parsers need the whole answer. Use predict in place of stream.")
