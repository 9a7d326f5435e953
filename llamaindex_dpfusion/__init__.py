"""dpfusion for LlamaIndex: a thin translator between LlamaIndex's interfaces and :mod:`dpfusion_core`."""

try:
    import llama_index.core as _llama_index_core
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "llamaindex_dpfusion needs llama-index-core: pip install 'dpfusion[llamaindex]'", name=error.name
    ) from None

from llamaindex_dpfusion.llm import DPFusionLLM
from llamaindex_dpfusion.postprocessor import DPFusionNodePostprocessor

del _llama_index_core

__all__ = ["DPFusionLLM", "DPFusionNodePostprocessor"]
