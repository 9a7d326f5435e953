"""One copy of a model's weights for everyone in the process who asks for it."""

import threading
from typing import Any
from weakref import WeakValueDictionary

import torch

from dpfusion_core.backends.transformers import TransformersBackend

# Weights are the process's: two copies of a model may not fit. Nobody's, once nobody holds them.
_LOADED: WeakValueDictionary[str, TransformersBackend] = WeakValueDictionary()
_LOADING = threading.Lock()


def shared_backend(
    name_or_path: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    **model_kwargs: Any,
) -> TransformersBackend:
    """Return a loaded model; the same one for all who ask for it alike, as long as somebody holds it.

    For arguments and errors see :meth:`TransformersBackend.from_pretrained`.

    Example:
        >>> held = shared_backend("dpfusion-tiny")
        >>> shared_backend("dpfusion-tiny") is held
        True
    """
    options = {"device": device, "dtype": dtype, "device_map": device_map, **model_kwargs}
    key = repr((name_or_path, sorted(options.items())))
    with _LOADING:
        backend = _LOADED.get(key)
        if backend is None:
            backend = TransformersBackend.from_pretrained(
                name_or_path, device=device, dtype=dtype, device_map=device_map, **model_kwargs
            )
            _LOADED[key] = backend
        return backend
