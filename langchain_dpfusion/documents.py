"""Retrieved documents in prompts, each a privacy unit of its own."""

import string
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.prompts import BasePromptTemplate, format_document
from langchain_core.prompts.message import BaseMessagePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig

from dpfusion_core.adapters import DocumentUnit, document_unit, seen
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.privacy.guarantee import Retrieval
from langchain_dpfusion.conversation import Piece
from langchain_dpfusion.marked_messages import PLACEHOLDER, private_block, private_message, public_block
from langchain_dpfusion.options import named
from langchain_dpfusion.reading import read
from langchain_dpfusion.redaction import is_private_document

UnitOf = str | Callable[[Document], str | None] | None
"""Which privacy unit a document is: what its metadata say under a key, or what a function says. None, and
documents for which a function says None: its stable source, such as ``source`` or ``file_path``, for all its
chunks. The id that an index gives to a chunk may be drawn anew: it is the unit where there is nothing better,
and a ledger refuses it."""

NOTHING_FOUND = "No documents were found."
"""What stands in the place of documents where there are none; public."""

IsPrivate = Callable[[Document], bool] | None
"""Which documents are private; None: all whose metadata do not say ``is_private: False``."""


@dataclass(frozen=True)
class DocumentBlocks:
    """How documents become content blocks.

    Args:
        private: Which documents are private.
        unit: Which privacy unit a document is.
        document_prompt: How a document and its metadata are written; its content alone by default.
        separator: What stands between two documents; public.
    """

    private: IsPrivate = None
    unit: UnitOf = None
    document_prompt: BasePromptTemplate[str] | None = None
    separator: str = "\n\n"

    def __call__(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        """Return the blocks of documents, with the separator between them.

        Raises:
            ViewError: If something is no document.
        """
        blocks: list[dict[str, Any]] = []
        for document in documents:
            if not isinstance(document, Document):
                raise ViewError(f"Expected a list of documents, found a {type(document).__name__} in it.")
            prompt = self.document_prompt
            with errors_as(ViewError, "A document cannot be written with document_prompt ({error})."):
                text = document.page_content if prompt is None else format_document(document, prompt)
            if blocks:
                blocks.append(public_block(self.separator))
            blocks.append(self._private(document, text) if self.is_private(document) else public_block(text))
        return blocks

    def _private(self, document: Document, text: str) -> dict[str, Any]:
        seen.remember(document.page_content)  # without what document_prompt writes around it
        unit = self.unit_of(document)
        return private_block(text, unit.name, is_stable=unit.is_stable)

    def is_private(self, document: Document) -> bool:
        """Return whether a document is private."""
        if self.private is not None:
            with errors_as(ViewError, "private= did not say whether a document is private ({error})."):
                return bool(self.private(document))
        return is_private_document(document)

    def unit_of(self, document: Document) -> DocumentUnit:
        """Return the privacy unit of a document, for all its chunks."""
        if self.unit is not None and not isinstance(self.unit, str):
            with errors_as(ViewError, "unit= did not say which unit a document is ({error})."):
                name = self.unit(document)
            if name is not None and str(name).strip():
                return DocumentUnit(str(name), is_stable=True)
        key = self.unit if isinstance(self.unit, str) else None
        return document_unit(document.metadata, key=key, own_id=document.id)


class PrivateDocumentFormatter(Runnable[Sequence[Document], list[BaseMessage]]):
    """Turns retrieved documents into one human message with a private block for each document.

    Takes the place of ``format_docs`` in a chain; in the prompt, ``("placeholder", "{context}")`` or
    :func:`private_template` takes its output.

    Args:
        private: Which documents are private; by default all whose metadata do not say
            ``is_private: False``.
        unit: Metadata key, or function of a document, that names its privacy unit; by default its
            ``source``, ``file_path`` or the like, for all its chunks. Names are public.
        document_prompt: How a document and its metadata are written; its content alone by default.
        separator: What stands between two documents.
        retrieval: ``"covered"`` for the documents of a :class:`~langchain_dpfusion.DPThresholdRetriever` and a
            consensus that says so too: then nothing public shows that none was found.

    Raises:
        ViewError: If the input is no list of documents.
        PrivacyParameterError: If ``retrieval`` is something else.

    Example:
        >>> formatter = PrivateDocumentFormatter()
        >>> (message,) = formatter.invoke([Document("Ann is ill.", metadata={"source": "doc-1"})])
        >>> message.content[0]["extras"]
        {'is_private': True, 'unit': 'doc-1'}
    """

    @named("PrivateDocumentFormatter")
    def __init__(
        self,
        private: IsPrivate = None,
        unit: UnitOf = None,
        *,
        document_prompt: BasePromptTemplate[str] | None = None,
        separator: str = "\n\n",
        retrieval: Retrieval | None = None,
    ) -> None:
        if retrieval not in (None, *get_args(Retrieval)):
            raise PrivacyParameterError(f"Expected retrieval 'covered' or 'not covered', got {retrieval!r}.")
        self._blocks = DocumentBlocks(private, unit, document_prompt, separator)
        # In the place of documents that are not there, what the public sees of those that are.
        self._nothing = private_block(PLACEHOLDER) if retrieval == "covered" else public_block(NOTHING_FOUND)

    def invoke(
        self, input: Sequence[Document], config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[BaseMessage]:
        """Format documents; where there is none, the message says so."""
        return self._call_with_config(self._format, input, config)

    async def ainvoke(
        self, input: Sequence[Document], config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[BaseMessage]:
        """Format documents; see :meth:`invoke`."""
        return await self._acall_with_config(self._aformat, input, config)

    def _format(self, documents: Sequence[Document]) -> list[BaseMessage]:
        return [private_message(self._blocks(documents) or [self._nothing])]

    async def _aformat(self, documents: Sequence[Document]) -> list[BaseMessage]:
        return self._format(documents)


class PrivateMessageTemplate(BaseMessagePromptTemplate):
    """A template of a human message: its own words are public, what fills its variables is private."""

    template: str
    unit: str | None = None
    public: frozenset[str] = frozenset()

    @property
    def input_variables(self) -> list[str]:
        """The names of the variables."""
        return sorted({name for _, name in _parse(self.template) if name is not None})

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """Return the message.

        Raises:
            ViewError: If a variable is missing.
        """
        blocks: list[Any] = []
        for words, name in _parse(self.template):
            if words:
                blocks.append(public_block(words))
            if name is not None:
                if name not in kwargs:
                    raise ViewError(f"The private template needs a value for {name!r}.")
                value = kwargs[name]
                blocks += [public_block(str(value))] if name in self.public else self._private(value)
        return [private_message(blocks)]

    def pretty_repr(self, html: bool = False) -> str:
        """Return the template."""
        return self.template

    def _private(self, value: Any) -> list[dict[str, Any]]:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            return [public_block(NOTHING_FOUND)]
        if all(isinstance(each, Document) for each in values):
            return DocumentBlocks(unit=None if self.unit is None else lambda _: self.unit)(values)
        if all(isinstance(each, BaseMessage) for each in values):
            turns = [turn.by_rule("private") for each in values for turn in read(each)]
            return [_block(piece) for turn in turns for piece in turn.pieces]
        return [private_block(str(value), self.unit)] if str(value) else []


def _block(piece: Piece) -> dict[str, Any]:
    return (
        private_block(piece.text, piece.unit, is_stable=piece.is_stable)
        if piece.mark
        else public_block(piece.text)
    )


@named("private_template")
def private_template(
    template: str, *, unit: str | None = None, public: Collection[str] = ()
) -> PrivateMessageTemplate:
    """Return a template of a human message in which whatever fills the variables is private.

    A string belongs to ``unit``. A list of documents, or the messages of a
    :class:`PrivateDocumentFormatter`, keep a privacy unit for each document.

    Args:
        template: Text with variables in braces; its own words are public. Doubled braces are braces.
        unit: Privacy unit of the values; None for the unnamed one.
        public: Names of variables whose values are public, such as the question.

    Raises:
        ViewError: If the template cannot be read, or has no variable of a public name.

    Example:
        >>> from langchain_core.prompts import ChatPromptTemplate
        >>> prompt = ChatPromptTemplate([private_template("Records: {context}"), ("human", "{input}")])
        >>> message = prompt.invoke({"context": "Ann is ill.", "input": "Who?"}).to_messages()[0]
        >>> [block["extras"]["is_private"] for block in message.content]
        [False, True]
    """
    names = {name for _, name in _parse(template)}
    if isinstance(public, str) or not set(public) <= names:
        raise ViewError("Expected public to be a list of names of the template's variables.")
    return PrivateMessageTemplate(template=template, unit=unit, public=frozenset(public))


_NOT_A_TEMPLATE = "A private template has text with variables in braces: 'Records: {context}'."


def _parse(template: str) -> list[tuple[str, str | None]]:
    """Cut a template into words and the variable behind them, if there is one."""
    with errors_as(ViewError, _NOT_A_TEMPLATE):
        parts = list(string.Formatter().parse(template))
    if any(name is not None and (not name.isidentifier() or spec or how) for _, name, spec, how in parts):
        raise ViewError(_NOT_A_TEMPLATE)
    return [(words, name) for words, name, _, _ in parts]
