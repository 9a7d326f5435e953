"""Retrieval within the guarantee: each document takes part by its own score, and nobody learns how many do.

The k best documents are no function of one document: one that joins displaces another, so its neighbour's answer
is in the result or not because of it. A public threshold on a document's own score has no such effect: a document
that does not pass contributes nothing, which is what its zeroing out leaves, too.
"""

import math
from collections.abc import Iterable
from typing import Literal, TypeVar

from dpfusion_core.consensus.views import NOBODY
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import Message, Segment

_Document = TypeVar("_Document")


def passing(
    scored: Iterable[tuple[_Document, float | None]],
    threshold: float,
    *,
    closer: Literal["higher", "lower"] = "higher",
) -> list[_Document]:
    """Return the documents whose own score passes a public threshold; for ``retrieval="covered"``.

    The score must be a function of the question, public data and this document alone, such as the similarity of
    embeddings. One that knows the other documents is not: BM25's and TF-IDF's weights, a score normalised by
    the best one, a reranker that sees several, rank fusion. **Score all documents**: a store that is asked for the k
    best has chosen already. Choose the threshold without looking at the private documents.

    How many pass is private. Do not show it, log it or raise an error about it.

    Args:
        scored: The documents, or chunks of them, with their scores. One without a number does not pass.
        threshold: What a score must reach.
        closer: Whether higher or lower scores are closer; distances are lower.

    Raises:
        PrivacyParameterError: If the threshold is no finite number, or ``closer`` is something else.

    Example:
        >>> passing([("a", 0.9), ("b", 0.2), ("c", float("nan")), ("d", 0.5)], 0.5)
        ['a', 'd']
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise PrivacyParameterError(f"Expected a finite number as threshold, got {threshold!r}.")
    if closer not in ("higher", "lower"):
        raise PrivacyParameterError(f"Expected closer 'higher' or 'lower', got {closer!r}.")
    sign = 1.0 if closer == "higher" else -1.0
    # A comparison with NaN is False.
    return [each for each, score in scored if score is not None and sign * score >= sign * threshold]


def documents_message(documents: Iterable[tuple[str, str]]) -> Message:
    """Return documents as one user's message, in which nothing public shows how many there are.

    Args:
        documents: Units' ids with texts; chunks of one document have one id. Blank texts are left out.

    Example:
        >>> documents_message([("hr/cv-1", "Ann knows Rust."), ("hr/cv-2", "Bob knows Go.")]).units
        ('hr/cv-1', 'hr/cv-2')
        >>> documents_message([]).content
        '____'
    """
    segments = [Segment(f"{text}\n\n", True, unit) for unit, text in documents if text.strip()]
    return Message("user", segments) if segments else Message("user", NOBODY)
