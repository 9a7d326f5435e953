"""Totals over labels that were chosen at random within epsilon: raw, and with the known bias taken out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpfusion_core.closed import ClosedFields
from dpfusion_core.errors import PrivacyParameterError

_Z = 1.959963984540054  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class Labels:
    """The labels of one document, as they were chosen.

    Attributes:
        chosen: The text that was chosen for each question, by the field's name.
        weights: With which weight the model's own answer was mixed with the uniform one, by the field's name;
            None where nothing was private.
    """

    chosen: Mapping[str, str]
    weights: Mapping[str, float] | None


@dataclass(frozen=True)
class LabelTotal:
    """How many documents have one label of one field.

    Attributes:
        field: The field's name.
        label: The label.
        documents: How many documents were labelled.
        raw: How many were given the label. Each label is random, so a rare one is given too often.
        estimate: How many the model itself would give the label, with the randomness taken out on average; may be
            below 0 or above the number of documents.
        low: Lower end of an interval that holds that number with 95 %.
        high: Upper end.
    """

    field: str
    label: str
    documents: int
    raw: int
    estimate: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """Return the total as plain values, for JSON."""
        return asdict(self)


def label_totals(fields: ClosedFields, documents: Sequence[Labels]) -> list[LabelTotal]:
    """Return the totals of labels over documents; they follow from the labels alone, so they cost nothing.

    A document is given label ``c`` with probability ``(1 - w) / K + w p(c)``, where ``p`` is what the model itself
    makes of the document, and ``w`` is public and the same for all documents (:meth:`FusionEngine.fill` with
    ``for_totals=True``). So ``(raw - n (1 - w) / K) / w`` is ``sum p(c)`` on average, whatever the documents say: no
    assumption about them or about the model is made. What the model gets wrong stays wrong. The interval is
    Wilson's for the raw share, which errs to the wide side where documents differ, mapped in the same way.

    Args:
        fields: What was asked.
        documents: The labels of each document.

    Raises:
        PrivacyParameterError: If the documents were not labelled alike, with a public weight.

    Example:
        >>> from dpfusion_core import closed_fields
        >>> fields = closed_fields({"properties": {"ward": {"enum": ["A", "B"]}}})
        >>> some = [Labels({"ward": "A"}, {"ward": 0.5})] * 70 + [Labels({"ward": "B"}, {"ward": 0.5})] * 30
        >>> [(each.label, each.raw, round(each.estimate)) for each in label_totals(fields, some)]
        [('A', 70, 90), ('B', 30, 10)]
    """
    found = []
    count = len(documents)
    for asked in fields.closed:
        weight = _weight(asked.name, documents)
        floor = (1.0 - weight) / len(asked.choices)
        for label in asked.choices:
            raw = sum(each.chosen.get(asked.name) == label for each in documents)
            ends = (
                count * (share - floor) / weight for share in (_wilson(raw, count) if count else (0.0, 0.0))
            )
            low, high = (min(max(0.0, each), float(count)) for each in ends)
            if weight == 1.0:
                low = high = float(raw)  # nothing was random but the model
            estimate = (raw - count * floor) / weight
            found.append(LabelTotal(asked.name, label, count, raw, estimate, low, high))
    return found


def _weight(name: str, documents: Sequence[Labels]) -> float:
    """Return the weight that all documents have in common; 1 where nothing was private."""
    weights = {1.0 if each.weights is None else each.weights.get(name) for each in documents}
    if len(weights) > 1 or not all(weight is not None and weight > 0.0 for weight in weights):
        raise PrivacyParameterError(
            f"The documents were not labelled alike for {name!r}: totals need the same budget and schema for all, and "
            "for_totals=True."
        )
    return next((weight for weight in weights if weight is not None), 1.0)


def _wilson(raw: int, count: int) -> tuple[float, float]:
    share, z2 = raw / count, _Z**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    return middle - half, middle + half
