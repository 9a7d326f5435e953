"""What the integrations with frameworks share: the call, and one rule for marks, units and unmarked text.

A framework's package reads its own objects and asks here what they mean, so that the same request is
protected, charged and refused alike wherever it comes from.
"""

from dpfusion_core.adapters.calls import Call
from dpfusion_core.adapters.closed import Closed, closed_answer
from dpfusion_core.adapters.documents import DocumentUnit, document_unit, warn_unstable
from dpfusion_core.adapters.engines import check_parts, load_engine
from dpfusion_core.adapters.marks import Marks
from dpfusion_core.adapters.memory import LONG, SHORT, PrivateTexts, seen
from dpfusion_core.adapters.paraphrases import Paraphrase, Paraphraser
from dpfusion_core.adapters.replies import FinishedReply, Reply, offered_tools
from dpfusion_core.adapters.unmarked import (
    Said,
    Unmarked,
    arguments_text,
    check_unmarked,
    decide,
    effective_unmarked,
    is_private,
)

__all__ = [
    "LONG",
    "SHORT",
    "Call",
    "Closed",
    "DocumentUnit",
    "FinishedReply",
    "Marks",
    "Paraphrase",
    "Paraphraser",
    "PrivateTexts",
    "Reply",
    "Said",
    "Unmarked",
    "arguments_text",
    "check_parts",
    "check_unmarked",
    "closed_answer",
    "decide",
    "document_unit",
    "effective_unmarked",
    "is_private",
    "load_engine",
    "offered_tools",
    "seen",
    "warn_unstable",
]
