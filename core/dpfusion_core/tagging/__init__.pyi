from .compose import (
    CachedTagger as CachedTagger,
    UnionTagger as UnionTagger,
)
from .constitution import (
    CONSTITUTIONS as CONSTITUTIONS,
    ConstitutionTagger as ConstitutionTagger,
)
from .document_privacy import (
    DocumentPrivacyTagger as DocumentPrivacyTagger,
)
from .narrowing import (
    Narrowing as Narrowing,
    find_spans as find_spans,
)
from .phrases import (
    FunctionTagger as FunctionTagger,
    PhraseTagger as PhraseTagger,
    RegexTagger as RegexTagger,
)
from .presidio import (
    PresidioTagger as PresidioTagger,
)
from .spans import (
    Span as Span,
    Tagger as Tagger,
    merge_spans as merge_spans,
    split_by_spans as split_by_spans,
    tag_batch as tag_batch,
)
from .tokens import (
    TokenClassificationTagger as TokenClassificationTagger,
)
