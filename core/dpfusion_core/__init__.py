"""Differentially private text generation for private prompts.

Messages say which of their parts are private; what comes out is bounded, provably, in how much it
can tell about each privacy unit.

    from dpfusion_core import FusionEngine, Message

    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    result = engine.generate(
        [Message("user", record, is_private=True), Message("user", "Where does the patient live?")],
        alpha=2.0, beta=0.01,
    )
    print(result.text, result.guarantee)
"""

from dpfusion_core.backends import Backend, ScriptedBackend, Session, TransformersBackend
from dpfusion_core.documents import DocumentReport, PrivatizedDocument, aprivatize, privatize
from dpfusion_core.dpfusion import DPFusion, DPFusionResult, generate_dp_text
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import (
    BackendError,
    BudgetExhaustedError,
    DPFusionError,
    LedgerError,
    PrivacyParameterError,
    TaggerError,
    UnsupportedError,
    ViewError,
)
from dpfusion_core.generation import Chunk, CuratorReport, GenerationOptions, GenerationResult
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger
from dpfusion_core.messages import Message, Segment, ToolCall
from dpfusion_core.privacy import (
    PrivacyBudget,
    PrivacyGuarantee,
    PrivacyParameters,
    calibrate_beta,
    compute_dp_epsilon,
    compute_epsilon_single_group,
)
from dpfusion_core.tagging import (
    CachedTagger,
    ConstitutionTagger,
    DocumentPrivacyTagger,
    FunctionTagger,
    Narrowing,
    PhraseTagger,
    PresidioTagger,
    RegexTagger,
    Span,
    Tagger,
    TokenClassificationTagger,
    UnionTagger,
)
from dpfusion_core.tool_calling import parse_tool_calls
from dpfusion_core.views import fixed_placeholder, label_placeholder, length_preserving_placeholder

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendError",
    "BudgetExhaustedError",
    "BudgetPolicy",
    "CachedTagger",
    "Chunk",
    "ConstitutionTagger",
    "CuratorReport",
    "DPFusion",
    "DPFusionError",
    "DPFusionResult",
    "DocumentPrivacyTagger",
    "DocumentReport",
    "FunctionTagger",
    "FusionEngine",
    "GenerationOptions",
    "GenerationResult",
    "LedgerError",
    "Message",
    "Narrowing",
    "PhraseTagger",
    "PresidioTagger",
    "PrivacyBudget",
    "PrivacyGuarantee",
    "PrivacyLedger",
    "PrivacyParameterError",
    "PrivacyParameters",
    "PrivatizedDocument",
    "RegexTagger",
    "ScriptedBackend",
    "Segment",
    "Session",
    "Span",
    "Tagger",
    "TaggerError",
    "TokenClassificationTagger",
    "ToolCall",
    "TransformersBackend",
    "UnionTagger",
    "UnsupportedError",
    "ViewError",
    "aprivatize",
    "calibrate_beta",
    "compute_dp_epsilon",
    "compute_epsilon_single_group",
    "fixed_placeholder",
    "generate_dp_text",
    "label_placeholder",
    "length_preserving_placeholder",
    "parse_tool_calls",
    "privatize",
]
