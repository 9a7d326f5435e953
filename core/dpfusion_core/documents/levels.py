"""``privatize``: a document at one of three levels of privacy."""

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from dpfusion_core.documents.chunks import Level, PrivatizedDocument
from dpfusion_core.documents.privatizer import Privatizer
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.tagging import Narrowing, Tagger


@overload
def privatize(documents: str, level: Level = "redact", **arguments: Any) -> PrivatizedDocument: ...
@overload
def privatize(
    documents: Iterable[str], level: Level = "redact", **arguments: Any
) -> list[PrivatizedDocument]: ...
def privatize(
    documents: str | Iterable[str],
    level: Level = "redact",
    *,
    tagger: Tagger | Narrowing | None = None,
    engine: FusionEngine | str | None = None,
    names: str | Sequence[str] | None = None,
    placeholder: str | Placeholder | None = None,
    max_tokens: int | None = None,
    chunk: int | None = None,
    instruction: str | None = None,
    progress: bool = False,
    schema: Any = None,
    shares: Mapping[str, float] | None = None,
    **options: Any,
) -> PrivatizedDocument | list[PrivatizedDocument]:
    """Privatise a document, or several, at one of three levels.

    - ``"redact"`` replaces what the tagger finds by the placeholder. It hides these phrases, and nothing
      that it did not find: the rest stands there word for word, and may identify people by itself.
    - ``"paraphrase"`` lets a model rewrite the redacted text. No private text reaches the model, so no
      budget is spent. It also hides how things were worded, to a degree that nobody has proven; it does
      not hide what the redacted text tells.
    - ``"dp"`` lets a model rewrite the text with DP-Fusion. The output is as close to the paraphrase of the
      redacted text as epsilon says, so it can be of more use; the report has the guarantee, which is for
      the whole document, however many chunks it was read in. What the tagger did not find is not
      protected by it.

    Args:
        documents: A text, or several.
        level: The level.
        tagger: Finds the private phrases; a tagger, or a :class:`~dpfusion_core.tagging.Narrowing` that
            says how what it finds is grouped and what happens if it fails. Default: the engine's.
        engine: The model of the levels ``"paraphrase"`` and ``"dp"``; an engine, or the name or path of
            a model. Its ledger is charged once for each document.
        names: Privacy unit of each document, by which a ledger keeps its account.
        placeholder: What stands in the place of private text; the engine's, or ``____``.
        max_tokens: Largest number of tokens that a document is rewritten in, all chunks together; at
            level ``"dp"`` epsilon is spread over them. By default somewhat more than it has redacted.
        chunk: Number of characters after which a chunk ends with the sentence; 1500 by default. A model
            reads one at a time.
        instruction: What the model is told to do, by default to paraphrase; public.
        progress: Whether to show a progress bar on standard error.
        schema: Level ``"dp"``: facts to keep, as closed fields (see :func:`~dpfusion_core.closed_fields`). They are
            chosen within epsilon, and the text is then written from them and the redacted text, at no further
            cost: where these facts are what is wanted, that keeps far more of them than fusion token by token.
        shares: How the fields of the schema share epsilon; see :meth:`FusionEngine.fill`.
        **options: ``epsilon`` and ``delta`` of each document, or ``order`` and ``beta``, and how tokens are
            sampled: see :class:`~dpfusion_core.options.Options`. What has no effect at a level is refused.

    Returns:
        The document with its report; a list for several documents.

    Raises:
        PrivacyParameterError: If an argument is missing, out of range or contradictory.
        ViewError: If a text is unreadable, or a chunk does not fit the model.
        TaggerError: If the tagger fails and its narrowing says to raise.
        BudgetExhaustedError: If a document's budget in the ledger does not suffice.
        LedgerError: If the ledger cannot be reached or written.
        BackendError: If the model fails or cannot be loaded.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger
        >>> tagger = PhraseTagger({"Ann": "PERSON", "Oslo": "PLACE"})
        >>> document = privatize("Ann lives in Oslo.", tagger=tagger)
        >>> document.text, document.report.spans
        ('____ lives in ____.', {'PERSON': 1, 'PLACE': 1})
        >>> document = privatize(
        ...     "Ann lives in Oslo.", "dp", tagger=tagger, engine="dpfusion-tiny", epsilon=8.0, max_tokens=20
        ... )
        >>> round(document.report.guarantee.epsilon, 6)
        8.0
    """
    privatizer = Privatizer(
        level,
        tagger=tagger,
        engine=engine,
        placeholder=placeholder,
        max_tokens=max_tokens,
        chunk=chunk,
        instruction=instruction,
        schema=schema,
        shares=shares,
        **options,
    )
    texts = [documents] if isinstance(documents, str) else list(documents)
    units = _units(names, len(texts))
    done = []
    for text, unit in _shown(list(zip(texts, units, strict=True)), progress):
        (written,), report = privatizer([text], unit)
        done.append(PrivatizedDocument(written, report))
    return done[0] if isinstance(documents, str) else done


@overload
async def aprivatize(documents: str, level: Level = "redact", **arguments: Any) -> PrivatizedDocument: ...
@overload
async def aprivatize(
    documents: Iterable[str], level: Level = "redact", **arguments: Any
) -> list[PrivatizedDocument]: ...
async def aprivatize(
    documents: str | Iterable[str],
    level: Level = "redact",
    *,
    names: str | Sequence[str] | None = None,
    progress: bool = False,
    **arguments: Any,
) -> PrivatizedDocument | list[PrivatizedDocument]:
    """Privatise documents without blocking the event loop; see :func:`privatize`.

    If it is cancelled, the work ends with the chunk in progress. What was charged for the document in
    progress and not used is given back.
    """
    privatizer = await asyncio.to_thread(Privatizer, level, **arguments)
    texts = [documents] if isinstance(documents, str) else list(documents)
    stop = threading.Event()
    done = []
    try:
        for text, unit in _shown(list(zip(texts, _units(names, len(texts)), strict=True)), progress):
            (written,), report = await asyncio.to_thread(privatizer, [text], unit, stop)
            done.append(PrivatizedDocument(written, report))
    finally:
        stop.set()
    return done[0] if isinstance(documents, str) else done


def _units(names: str | Sequence[str] | None, count: int) -> list[str | None]:
    units: list[str | None] = (
        [None] * count if names is None else [names] if isinstance(names, str) else [*names]
    )
    if len(units) != count:
        raise PrivacyParameterError(f"Expected a name for each of {count} documents, got {len(units)}.")
    return units


def _shown(items: list[tuple[str, str | None]], progress: bool) -> Iterable[tuple[str, str | None]]:
    if not progress:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "Privatising", console=Console(stderr=True))
