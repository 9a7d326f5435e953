"""dpfusion for LangChain: a thin translator between LangChain's interfaces and :mod:`dpfusion_core`."""

__all__: list[str] = []
