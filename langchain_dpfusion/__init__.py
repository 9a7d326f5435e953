"""dpfusion for LangChain: a thin translator between LangChain's interfaces and :mod:`dpfusion_core`."""

from langchain_dpfusion.chat_models import ChatDPFusion

__all__ = ["ChatDPFusion"]
