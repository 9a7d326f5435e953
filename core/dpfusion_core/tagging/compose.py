"""Taggers made of taggers: a union, and one that remembers what it was asked."""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from dpfusion_core import _validate
from dpfusion_core.errors import TaggerError
from dpfusion_core.tagging.occurrences import tag_everywhere
from dpfusion_core.tagging.spans import Span, Tagger, tag_batch


class UnionTagger:
    """Tags what any of several taggers finds. If one fails, all fail: what it missed is not known.

    Args:
        *taggers: The taggers.

    Raises:
        TaggerError: If there is none.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger, RegexTagger
        >>> union = UnionTagger(PhraseTagger(["Ann"], label="PERSON"), RegexTagger({"CASE": "AZ-[0-9]+"}))
        >>> [span.label for span in union.tag("Ann's case is AZ-17.")]
        ['PERSON', 'CASE']
    """

    def __init__(self, *taggers: Tagger) -> None:
        if not taggers:
            raise TaggerError("Expected at least one tagger.")
        self.taggers = taggers

    def __repr__(self) -> str:
        return f"UnionTagger({', '.join(map(repr, self.taggers))})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of all taggers, merged where they overlap."""
        return tag_everywhere(text, (span for tagger in self.taggers for span in tagger.tag(text)))

    def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of several texts."""
        answers = [tag_batch(tagger, texts) for tagger in self.taggers]
        return [
            tag_everywhere(text, (span for spans in each for span in spans))
            for text, each in zip(texts, zip(*answers, strict=True), strict=True)
        ]


class SpanCache:
    """Remembers the spans of the texts that were asked last, by a keyed digest: it holds no text.

    Args:
        size: How many texts it remembers; 0 for none.

    Raises:
        PrivacyParameterError: If ``size`` is negative.
    """

    def __init__(self, size: int) -> None:
        self._size = _validate.count(size, "cache_size", minimum=0)
        self._key = secrets.token_bytes(32)
        self._spans: OrderedDict[bytes, tuple[Span, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._spans)

    def get(self, settings: str, text: str) -> list[Span] | None:
        """Return what was found in a text under some settings, or None."""
        digest = self._digest(settings, text)
        with self._lock:
            if digest not in self._spans:
                return None
            self._spans.move_to_end(digest)
            return list(self._spans[digest])

    def put(self, settings: str, text: str, spans: Iterable[Span]) -> None:
        """Remember what was found; forget what was not asked for longest."""
        digest = self._digest(settings, text)
        with self._lock:
            self._spans[digest] = tuple(spans)
            self._spans.move_to_end(digest)
            while len(self._spans) > self._size:
                self._spans.popitem(last=False)

    def _digest(self, settings: str, text: str) -> bytes:
        hashed = hashlib.blake2b(key=self._key, digest_size=32)
        for part in (settings, text):
            data = part.encode("utf-8", "surrogatepass")
            hashed.update(len(data).to_bytes(8, "big") + data)
        return hashed.digest()


class CachedTagger:
    """Asks a tagger only once about each text, as long as it is among the last ones.

    The taggers that take long, those with models and the remote one, have such a cache already.

    Args:
        tagger: The tagger. Its answer must depend on the text and on what its ``repr`` shows alone.
        size: How many texts to remember. They are known by a keyed digest; no text is kept.

    Raises:
        PrivacyParameterError: If ``size`` is negative.

    Example:
        >>> from dpfusion_core.tagging import FunctionTagger
        >>> asked = []
        >>> tagger = CachedTagger(FunctionTagger(lambda text: asked.append(1) or ["Ann"]))
        >>> tagger.tag("Ann") == tagger.tag("Ann"), len(asked)
        (True, 1)
    """

    def __init__(self, tagger: Tagger, size: int = 256) -> None:
        self.tagger = tagger
        self._cache = SpanCache(size)

    def __repr__(self) -> str:
        return f"CachedTagger({self.tagger!r})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of ``text``."""
        return self.tag_batch([text])[0]

    def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of several texts; the tagger is asked about the new ones alone."""
        settings = repr(self.tagger)
        known = {text: self._cache.get(settings, text) for text in texts}
        new = [text for text, spans in known.items() if spans is None]
        for text, spans in zip(new, tag_batch(self.tagger, new) if new else (), strict=True):
            known[text] = list(spans)
            self._cache.put(settings, text, spans)
        return [list(known[text] or ()) for text in texts]
