"""From private messages to private phrases: what a tagger finds stays private, the rest becomes public."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.messages import Message, Segment
from dpfusion_core.tagging.folding import FoldedText
from dpfusion_core.tagging.naming import KeySource, Naming, UnitsOf, as_key, entity_names
from dpfusion_core.tagging.occurrences import PhraseIndex, tag_everywhere
from dpfusion_core.tagging.spans import Span, Tagger, merge_spans, tag_batch
from dpfusion_core.tagging.windows import check_readable
from dpfusion_core.threads import in_time

TIMEOUT = 300.0
"""Seconds that a tagger may take for a text unless the caller says otherwise."""


@dataclass(frozen=True)
class Narrowing:
    """How private messages are narrowed to private phrases.

    What cannot be shown to be public stays private: a tagger that fails, or that finds nothing, leaves
    the whole text private unless the caller says otherwise. A phrase that is found in one private text of
    a conversation is private in all of them.

    Attributes:
        tagger: Finds the phrases.
        units: ``"message"``: a phrase belongs to its message's unit. ``"label"``: to a unit of its
            label, as the DP-Fusion paper groups them. ``"entity"``: to a unit of its own, the same
            for the same phrase under the same label, whenever it comes; case and Unicode form make no
            difference. A function gets the span and its text and names the unit; the name is public.
        numbered: Whether labels are numbered by entity: ``PERSON_1``, ``PERSON_2``.
        on_error: What to do if the tagger fails: ``"private"`` leaves the text private as a whole,
            ``"raise"`` raises.
        trust_empty: Whether a text in which the tagger finds nothing is public. By default it stays
            private as a whole.
        timeout: Seconds for each text after which a tagger counts as failed; None waits for ever. A
            tagger cannot be interrupted: it goes on in a thread that nobody waits for.
        key: Secret of at least 16 bytes from which the ids of entities are made. By default the key of
            the ledger that is charged; without a ledger one of this process, and then the ids are
            refused by every ledger, for they would change with the next start.

    Raises:
        PrivacyParameterError: If a value is none of the choices.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger
        >>> narrowing = Narrowing(PhraseTagger(["Ann"], label="PERSON"), units="label")
        >>> messages, whole = narrowing([Message("user", "Ann is ill.", is_private=True)])
        >>> messages[0].segments[0].unit, messages[0].segments[1], whole
        ('person', Segment(text=' is ill.', is_private=False, unit=None, label=None), 0)
    """

    tagger: Tagger
    units: UnitsOf = "message"
    numbered: bool = False
    on_error: Literal["private", "raise"] = "private"
    trust_empty: bool = False
    timeout: float | None = TIMEOUT
    key: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not callable(getattr(self.tagger, "tag", None)):
            raise PrivacyParameterError("Expected tagger to have a method tag(text) that returns spans.")
        if not (self.units in ("message", "label", "entity") or callable(self.units)):
            raise PrivacyParameterError(
                "Expected units 'message', 'label', 'entity' or a function of a span and its text."
            )
        if self.on_error not in ("private", "raise"):
            raise PrivacyParameterError(f"Expected on_error 'private' or 'raise', got {self.on_error!r}.")
        if self.timeout is not None:
            _validate.positive(self.timeout, "timeout")
        if self.key is not None:
            if self.units != "entity":
                raise PrivacyParameterError("key is for units='entity': leave it out, or say so.")
            as_key(self.key)

    def __call__(
        self, messages: Sequence[Message], ledger: KeySource | None = None
    ) -> tuple[list[Message], int]:
        """Narrow a conversation.

        Args:
            messages: The conversation.
            ledger: The ledger that will be charged for it, if any: the ids of entities come from its key
                unless there is an own one.

        Returns:
            The conversation with only the found phrases private, and the number of private texts
            that stayed private as a whole.

        Raises:
            TaggerError: If the tagger fails and ``on_error`` is ``"raise"``.
            PrivacyParameterError: If the ledger has no key for entities; before the tagger is asked.
            LedgerError: If the ledger cannot be opened; before the tagger is asked.
        """
        is_named = self.units == "entity" and any(m.units for m in messages)
        entities = entity_names(self.key, ledger) if is_named else None
        texts = [s.text for m in messages for s in m.segments if s.is_private]
        found = iter(self._find(texts))
        naming = Naming(self.units, self.numbered, entities)
        narrowed, whole = [], 0
        for message in messages:
            segments: list[Segment] = []
            for segment in message.segments:
                parts = [segment]
                if segment.is_private:
                    parts = self._cut(segment, next(found), naming)
                    whole += parts == [segment]
                segments += parts
            narrowed.append(replace(message, content=segments, is_private=False, unit=None))
        return narrowed, whole

    def _find(self, texts: Sequence[str]) -> list[list[Span] | None]:
        """Return the spans of each text; None for those that stay private as a whole."""
        answers: Sequence[list[Span] | None] = self._find_at_once(texts) or [
            self._find_alone(text) for text in texts
        ]
        found = [spans if spans or self.trust_empty else None for spans in answers]
        # What is private in one text is private in the others.
        if len(texts) == 1:
            return found
        index = PhraseIndex(
            (text[span.start : span.end], span.label, span.score)
            for text, spans in zip(texts, found, strict=True)
            for span in spans or ()
        )
        return [
            spans if spans is None else merge_spans([*spans, *index.find(FoldedText(text))], len(text))
            for text, spans in zip(texts, found, strict=True)
        ]

    def _find_at_once(self, texts: Sequence[str]) -> list[list[Span]] | None:
        """Return the spans of several texts from a tagger that takes batches; None if it must be asked one by one.

        A batch that fails does not say for which text.
        """
        if len(texts) < 2 or not hasattr(self.tagger, "tag_batch"):
            return None
        limit = None if self.timeout is None else self.timeout * len(texts)
        try:
            return _spans_of(self.tagger, texts, limit)
        except TaggerError:
            return None

    def _find_alone(self, text: str) -> list[Span] | None:
        try:
            return find_spans(self.tagger, text, self.timeout)
        except TaggerError:
            if self.on_error == "raise":
                raise
            return None

    def _cut(self, segment: Segment, spans: list[Span] | None, naming: Naming) -> list[Segment]:
        if spans is None:
            return [segment]
        try:
            return naming.cut(segment, spans)
        except TaggerError:
            if self.on_error == "raise":
                raise
            return [segment]


def find_spans(tagger: Tagger, text: str, timeout: float | None = None) -> list[Span]:
    """Ask a tagger, check what it says, and tag every occurrence of what it has found.

    Args:
        tagger: The tagger.
        text: The text.
        timeout: Seconds to wait at most; None for ever.

    Returns:
        Sorted spans inside the text that do not overlap.

    Raises:
        TaggerError: If the tagger raises, times out, or returns something else than such spans. The
            error never quotes the text.
    """
    return _spans_of(tagger, [text], timeout)[0]


def _spans_of(tagger: Tagger, texts: Sequence[str], timeout: float | None) -> list[list[Span]]:
    for text in texts:
        check_readable(text)
    said = f"The tagger {type(tagger).__name__} raised {{error}}."
    with errors_as(TaggerError, said, ours=TaggerError):
        answers = _answers(tagger, texts, timeout)
        return [tag_everywhere(text, spans) for text, spans in zip(texts, answers, strict=True)]


def _answers(tagger: Tagger, texts: Sequence[str], timeout: float | None) -> list[Sequence[Span]]:
    if timeout is None:
        return tag_batch(tagger, texts)
    with errors_as(
        TaggerError,
        f"The tagger {type(tagger).__name__} did not answer within {timeout:g} s.",
        only=TimeoutError,
    ):
        return in_time(lambda: tag_batch(tagger, texts), timeout, "dpfusion-tagger")
