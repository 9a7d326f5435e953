"""The in-process backend for any causal language model of Hugging Face ``transformers``."""

import inspect
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dpfusion_core.backends.guarded import model_errors
from dpfusion_core.backends.model import Passes
from dpfusion_core.backends.probe import probe
from dpfusion_core.backends.rows import attending_row_by_row
from dpfusion_core.backends.sessions import Lockstep, ViewsSession
from dpfusion_core.errors import BackendError, ViewError
from dpfusion_core.tiny import MODEL_NAME, model_path
from dpfusion_core.tokenization import Tokenizer

_HUB_OPTIONS = frozenset({"cache_dir", "local_files_only", "revision", "token", "trust_remote_code"})
"""Options of ``from_pretrained`` that concern the tokenizer as much as the model."""


_STATE_NAMES = ("past_key_values", "cache_params", "state")
"""What architectures call the state that they carry from token to token."""


# A model's forward passes take turns, whoever holds it: its attention is switched for some of them.
_LOCKS: "WeakKeyDictionary[Any, threading.Lock]" = WeakKeyDictionary()


class TransformersBackend:
    """A ready model and its tokenizer.

    The views of a request share forward passes if a probe has shown that they do not touch: that each
    has equal bits whatever stands in the others, their lengths included. Else each has passes of its own.
    The probe runs here, and again if the model's dtype or device has changed since. While a request is
    answered, use the model through backends alone.

    Args:
        model: An ``AutoModelForCausalLM`` or anything with its call. Set to evaluation mode.
        tokenizer: Its tokenizer, with a chat template if messages are to be used.
        separate_views: Compute every view in passes of its own, whatever the probe would find.

    Raises:
        BackendError: If the model is not a causal language model.
        ViewError: If there is no tokenizer.

    Example:
        >>> backend = TransformersBackend.from_pretrained("dpfusion-tiny")
        >>> backend.context_length
        2048
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, *, separate_views: bool = False) -> None:
        config = getattr(model, "config", None)
        if config is None or not callable(model) or getattr(config, "is_encoder_decoder", False):
            raise BackendError(
                "Expected a causal language model of transformers, such as AutoModelForCausalLM."
            )
        if tokenizer is None or not callable(tokenizer):
            raise ViewError("Expected the model's tokenizer, such as AutoTokenizer.from_pretrained(...).")
        self._model = model.eval()
        self._tokenizer = tokenizer
        # Forward passes of several threads take turns; between tokens nothing is locked.
        self._lock = _LOCKS.setdefault(model, threading.Lock())
        accepted = inspect.signature(model.forward).parameters
        self.accepts_positions = "position_ids" in accepted
        known = [name for name in _STATE_NAMES if name in accepted]
        if not known:
            raise BackendError(f"{type(model).__name__} has no cache that this backend knows how to carry.")
        self.state_name = known[0]
        self._keep_last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._separate_views = separate_views
        self._probed: dict[tuple[Any, ...], Passes] = {}
        _ = self.passes

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        separate_views: bool = False,
        **model_kwargs: Any,
    ) -> "TransformersBackend":
        """Load a model and its tokenizer.

        Args:
            name_or_path: A name on the hub, a folder, or ``"dpfusion-tiny"``, the embedded model.
            device: Where the model runs; by default CUDA if there is one, else the CPU.
            dtype: Passed through; ``"auto"`` takes the checkpoint's, float32 for the embedded one.
            device_map: Passed through, for models over several devices; excludes ``device``.
            separate_views: Compute every view in forward passes of its own, see the class.
            **model_kwargs: Passed through to ``AutoModelForCausalLM.from_pretrained``.

        Raises:
            BackendError: If the model cannot be loaded.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if device is not None and device_map is not None:
            raise BackendError("Give device or device_map, not both.")
        path = name_or_path
        if name_or_path == MODEL_NAME:  # saved in bfloat16 to be small, which a CPU is slow at
            path, dtype = str(model_path()), torch.float32 if dtype == "auto" else dtype
        hub = {key: value for key, value in model_kwargs.items() if key in _HUB_OPTIONS}
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(path, **hub)
            model: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, device_map=device_map, **model_kwargs
            )
            if device_map is None:
                model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (
            OSError,
            ValueError,
            ImportError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
        ) as error:
            raise BackendError(
                f"The model {name_or_path!r} cannot be loaded: {error}. Check the name, device, dtype and "
                "other arguments, the folder's files, the network or HF_HUB_OFFLINE, and the access token of a gated "
                "model."
            ) from error
        return cls(model, tokenizer, separate_views=separate_views)

    def __repr__(self) -> str:
        return f"TransformersBackend({self.fingerprint})"

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of columns of the logits."""
        return int(self._text_config.vocab_size)

    @property
    def context_length(self) -> int | None:
        """The model's ``max_position_embeddings``; None if it states none."""
        length = getattr(self._text_config, "max_position_embeddings", None)
        return int(length) if length else None

    @cached_property
    def eos_token_ids(self) -> frozenset[int]:
        """The end-of-sequence tokens of the generation config, the model config and the tokenizer."""
        sources = (
            getattr(getattr(self._model, "generation_config", None), "eos_token_id", None),
            getattr(self._text_config, "eos_token_id", None),
            getattr(self._tokenizer, "eos_token_id", None),
        )
        ids: set[int] = set()
        for source in sources:
            ids.update([source] if isinstance(source, int) else source or [])
        return frozenset(ids)

    @property
    def fingerprint(self) -> str:
        """Model, dtype, device, library version, and whether views share forward passes."""
        import transformers

        name = getattr(self._model.config, "_name_or_path", "") or type(self._model).__name__
        return (
            f"{name}, {self._model.dtype}, {self._model.device}, transformers {transformers.__version__}, "
            f"views {self.passes}"
        )

    @property
    def passes(self) -> Passes:
        """How views are computed: "together" in shared forward passes, or "apart", each in its own.

        "unsafe" says that not even passes of their own give equal bits again: private text is refused.
        """
        state = self._model.dtype, self._model.device
        if state not in self._probed:
            self._probed[state] = probe(self, self._text_config, may_join=not self._separate_views)
        return self._probed[state]

    @property
    def _text_config(self) -> Any:
        config = self._model.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    def open(self, prompts: Sequence[Sequence[int]]) -> ViewsSession:
        """Begin a request of its own; see :meth:`Lockstep.open`."""
        return self.together().open(prompts)

    def together(self) -> Lockstep:
        """Return what begins requests that advance together, in shared passes where :attr:`passes` says so."""
        return Lockstep(self)

    @cached_property
    def embedding_rows(self) -> int:
        """Number of token ids that the model can read."""
        return int(self._model.get_input_embeddings().weight.shape[0])

    def forward(self, *, row_by_row: bool = False, keep_last: bool = True, **inputs: Any) -> Any:
        """Run the model on tensors; for the sessions."""
        attention = attending_row_by_row(self._model) if row_by_row else nullcontext()
        kept = self._keep_last if keep_last else {}
        with model_errors(), self._lock, torch.inference_mode(), attention:
            return self._model(**inputs, use_cache=True, **kept)

    def tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Put rows of integers on the model's device, ``[rows, length]``."""
        return torch.tensor(rows, device=self._model.device)
