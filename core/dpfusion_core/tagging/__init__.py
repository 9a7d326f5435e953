"""Finding what is private in a text."""

from dpfusion_core.tagging.compose import CachedTagger, UnionTagger
from dpfusion_core.tagging.constitution import CONSTITUTIONS, ConstitutionTagger
from dpfusion_core.tagging.document_privacy import DocumentPrivacyTagger
from dpfusion_core.tagging.narrowing import Narrowing, find_spans
from dpfusion_core.tagging.phrases import FunctionTagger, PhraseTagger, RegexTagger
from dpfusion_core.tagging.presidio import PresidioTagger
from dpfusion_core.tagging.spans import Span, Tagger, atag, merge_spans, split_by_spans, tag_batch
from dpfusion_core.tagging.tokens import TokenClassificationTagger

__all__ = [
    "CONSTITUTIONS",
    "CachedTagger",
    "ConstitutionTagger",
    "DocumentPrivacyTagger",
    "FunctionTagger",
    "Narrowing",
    "PhraseTagger",
    "PresidioTagger",
    "RegexTagger",
    "Span",
    "Tagger",
    "TokenClassificationTagger",
    "UnionTagger",
    "atag",
    "find_spans",
    "merge_spans",
    "split_by_spans",
    "tag_batch",
]
