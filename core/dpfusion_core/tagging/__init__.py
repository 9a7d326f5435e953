"""Finding what is private in a text."""

from dpfusion_core.tagging.phrases import PhraseTagger
from dpfusion_core.tagging.spans import Span, Tagger, merge_spans, split_by_spans

__all__ = ["PhraseTagger", "Span", "Tagger", "merge_spans", "split_by_spans"]
