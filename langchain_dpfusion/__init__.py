"""dpfusion for LangChain: a thin translator between LangChain's interfaces and :mod:`dpfusion_core`."""

from typing import TYPE_CHECKING, Any

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise ImportError("langchain_dpfusion needs LangChain: pip install 'dpfusion[langchain]'") from error

from langchain_dpfusion.chat_models import ChatDPFusion
from langchain_dpfusion.consensus import ChatDPConsensus
from langchain_dpfusion.corpus_tools import create_corpus_tools
from langchain_dpfusion.documents import PrivateDocumentFormatter, private_template
from langchain_dpfusion.marked_messages import mark_private, private_block
from langchain_dpfusion.paraphrases import DPDocumentTransformer
from langchain_dpfusion.retrieval import DPThresholdRetriever
from langchain_dpfusion.tools import create_private_retriever_tool
from langchain_dpfusion.tracing import private_tracing_client, redact_private

if TYPE_CHECKING:
    from langchain_dpfusion.middleware import DPFusionMiddleware

__all__ = [
    "ChatDPConsensus",
    "ChatDPFusion",
    "DPDocumentTransformer",
    "DPFusionMiddleware",
    "DPThresholdRetriever",
    "PrivateDocumentFormatter",
    "create_corpus_tools",
    "create_private_retriever_tool",
    "mark_private",
    "private_block",
    "private_template",
    "private_tracing_client",
    "redact_private",
]


def __getattr__(name: str) -> Any:
    """Load what needs ``langchain`` beside ``langchain-core`` when it is first used."""
    if name != "DPFusionMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_dpfusion.middleware import DPFusionMiddleware
    except ImportError as error:
        raise ImportError("DPFusionMiddleware needs agents: pip install 'dpfusion[agents]'") from error
    return DPFusionMiddleware
