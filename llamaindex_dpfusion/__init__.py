"""dpfusion for LlamaIndex: a thin translator between LlamaIndex's interfaces and :mod:`dpfusion_core`."""

__all__: list[str] = []
