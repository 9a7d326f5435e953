from .backends import (
    Backend as Backend,
    ScriptedBackend as ScriptedBackend,
    Session as Session,
    TransformersBackend as TransformersBackend,
)
from .choices import (
    ChoiceReport as ChoiceReport,
    ChoiceResult as ChoiceResult,
)
from .closed import (
    ClosedField as ClosedField,
    ClosedFields as ClosedFields,
    closed_fields as closed_fields,
)
from .consensus import (
    Answerer as Answerer,
    ChatServer as ChatServer,
    Consensus as Consensus,
    CountResult as CountResult,
    FunctionAnswerer as FunctionAnswerer,
    MeasureResult as MeasureResult,
)
from .documents import (
    DocumentReport as DocumentReport,
    PrivatizedDocument as PrivatizedDocument,
    aprivatize as aprivatize,
    privatize as privatize,
)
from .dpfusion import (
    DPFusion as DPFusion,
    DPFusionResult as DPFusionResult,
    generate_dp_text as generate_dp_text,
)
from .engine import (
    FusionEngine as FusionEngine,
    StructuredResult as StructuredResult,
)
from .errors import (
    BackendError as BackendError,
    BudgetExhaustedError as BudgetExhaustedError,
    DPFusionError as DPFusionError,
    LedgerError as LedgerError,
    PrivacyParameterError as PrivacyParameterError,
    RefusedError as RefusedError,
    TaggerError as TaggerError,
    UnsupportedError as UnsupportedError,
    ViewError as ViewError,
)
from .generation import (
    Chunk as Chunk,
    CuratorReport as CuratorReport,
    GenerationResult as GenerationResult,
)
from .ledger import (
    BudgetPolicy as BudgetPolicy,
    PrivacyLedger as PrivacyLedger,
)
from .messages import (
    Message as Message,
    Segment as Segment,
    ToolCall as ToolCall,
)
from .options import (
    GenerationOptions as GenerationOptions,
    Options as Options,
)
from .placeholders import (
    fixed_placeholder as fixed_placeholder,
    label_placeholder as label_placeholder,
    length_preserving_placeholder as length_preserving_placeholder,
)
from .privacy import (
    PrivacyBudget as PrivacyBudget,
    PrivacyGuarantee as PrivacyGuarantee,
    PrivacyParameters as PrivacyParameters,
    calibrate_beta as calibrate_beta,
    compute_dp_epsilon as compute_dp_epsilon,
    compute_epsilon_single_group as compute_epsilon_single_group,
)
from .tagging import (
    CachedTagger as CachedTagger,
    ConstitutionTagger as ConstitutionTagger,
    DocumentPrivacyTagger as DocumentPrivacyTagger,
    FunctionTagger as FunctionTagger,
    Narrowing as Narrowing,
    PhraseTagger as PhraseTagger,
    PresidioTagger as PresidioTagger,
    RegexTagger as RegexTagger,
    Span as Span,
    Tagger as Tagger,
    TokenClassificationTagger as TokenClassificationTagger,
    UnionTagger as UnionTagger,
)
from .tool_calling import (
    parse_tool_calls as parse_tool_calls,
)

__version__: str
