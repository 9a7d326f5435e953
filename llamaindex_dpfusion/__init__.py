"""dpfusion for LlamaIndex: a thin translator between LlamaIndex's interfaces and :mod:`dpfusion_core`.

from llama_index.core import Settings
from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor

Settings.llm = DPFusionLLM("Qwen/Qwen2.5-7B-Instruct", epsilon=8.0)
engine = index.as_query_engine(node_postprocessors=[DPFusionNodePostprocessor()])

What lives where: ``documents``, nodes as privacy units, sealed, packed, answered from, paraphrased;
``seals``, the marks that carry a unit's name through strings; ``prompts``, what is private in a call's
messages and templates; ``answers``, the call of the engine and what LlamaIndex gets back; ``settings`` and
``options``, what an LLM is made with; ``llm``, the methods that LlamaIndex calls.
"""

import importlib.util

if importlib.util.find_spec("llama_index") is None or importlib.util.find_spec("llama_index.core") is None:
    raise ModuleNotFoundError(
        "llamaindex_dpfusion needs llama-index-core: pip install 'dpfusion[llamaindex]'",
        name="llama_index.core",
    )

from llamaindex_dpfusion.answers.selector import DPFusionSelector
from llamaindex_dpfusion.consensus.llm import DPConsensusLLM
from llamaindex_dpfusion.consensus.tools import create_corpus_tools
from llamaindex_dpfusion.documents.covered import DPThresholdRetriever
from llamaindex_dpfusion.documents.ingestion import DPFusionTransform
from llamaindex_dpfusion.documents.packing import DPFusionPromptHelper
from llamaindex_dpfusion.documents.postprocessor import DPFusionNodePostprocessor, DPFusionRetriever
from llamaindex_dpfusion.documents.synthesizer import DPFusionSynthesizer
from llamaindex_dpfusion.llm import DPFusionLLM

__all__ = [
    "DPConsensusLLM",
    "DPFusionLLM",
    "DPFusionNodePostprocessor",
    "DPFusionPromptHelper",
    "DPFusionRetriever",
    "DPFusionSelector",
    "DPFusionSynthesizer",
    "DPFusionTransform",
    "DPThresholdRetriever",
    "create_corpus_tools",
]
