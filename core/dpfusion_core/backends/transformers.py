"""The in-process backend for any causal language model of Hugging Face ``transformers``."""

import inspect
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpfusion_core.demo import MODEL_NAME, model_path
from dpfusion_core.errors import BackendError, ViewError
from dpfusion_core.tokenization import Tokenizer

if TYPE_CHECKING:
    from transformers import DynamicCache


_HUB_OPTIONS = frozenset({"cache_dir", "local_files_only", "revision", "token", "trust_remote_code"})
"""Options of ``from_pretrained`` that concern the tokenizer as much as the model."""


_STATE_NAMES = ("past_key_values", "cache_params", "state")
"""What architectures call the state that they carry from token to token."""


class TransformersBackend:
    """A ready model and its tokenizer.

    Args:
        model: An ``AutoModelForCausalLM`` or anything with its call. Set to evaluation mode.
        tokenizer: Its tokenizer, with a chat template if messages are to be used.

    Raises:
        BackendError: If the model is not a causal language model.
        ViewError: If there is no tokenizer.

    Example:
        >>> backend = TransformersBackend.from_pretrained("dpfusion-tiny")
        >>> backend.context_length
        2048
    """

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
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
        self._lock = threading.Lock()
        accepted = inspect.signature(model.forward).parameters
        self.accepts_positions = "position_ids" in accepted
        known = [name for name in _STATE_NAMES if name in accepted]
        if not known:
            raise BackendError(f"{type(model).__name__} has no cache that this backend knows how to carry.")
        self.state_name = known[0]
        self._keep_last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        **model_kwargs: Any,
    ) -> "TransformersBackend":
        """Load a model and its tokenizer.

        Args:
            name_or_path: A name on the hub, a folder, or ``"dpfusion-tiny"``, the embedded model.
            device: Where the model runs; by default CUDA if there is one, else the CPU.
            dtype: Passed through; ``"auto"`` takes the checkpoint's, float32 for the embedded one.
            device_map: Passed through, for models over several devices; excludes ``device``.
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
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise BackendError(
                f"The model {name_or_path!r} cannot be loaded: {error}. Check the name, the folder's "
                "files, the network or HF_HUB_OFFLINE, and the access token of a gated model."
            ) from error
        if device_map is None:
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, tokenizer)

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

    @cached_property
    def fingerprint(self) -> str:
        """Model, dtype, device and library version."""
        import transformers

        name = getattr(self._model.config, "_name_or_path", "") or type(self._model).__name__
        return f"{name}, {self._model.dtype}, {self._model.device}, transformers {transformers.__version__}"

    @property
    def _text_config(self) -> Any:
        config = self._model.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    def open(self, prompts: Sequence[Sequence[int]]) -> "BatchedSession | RowwiseSession":
        """Read the prompts: the public one whole, each private one from where it leaves the public one.

        Models whose cache is plain attention keys and values advance all views in one batch.
        Others (sliding windows, recurrent states, no position ids) advance each view in a cache of
        its own: slower, and right for every architecture.

        Raises:
            BackendError: If a prompt is empty or has an unknown token, or the model fails.
        """
        rows = [list(prompt) for prompt in prompts]
        if not rows or not all(rows):
            raise BackendError("Expected at least one prompt, and none of them empty.")
        if not all(0 <= token < self._embedding_rows for row in rows for token in row):
            raise BackendError("A prompt has a token id outside the model's vocabulary.")
        first = _Row(self)
        logits = first.read(rows[0])  # [1, vocab]
        if not (self.accepts_positions and first.is_plain):
            others = [_Row(self) for _ in rows[1:]]
            scores = [logits, *(row.read(ids) for row, ids in zip(others, rows[1:], strict=True))]
            return RowwiseSession([first, *others], torch.cat(scores))
        forked = [_fork(first, rows[0], ids) for ids in rows[1:]]
        caches = [first, *(row for row, _ in forked)]
        return BatchedSession(self, caches, torch.cat([logits, *(score for _, score in forked)]))

    @property
    def _embedding_rows(self) -> int:
        return int(self._model.get_input_embeddings().weight.shape[0])

    def forward(self, **inputs: Any) -> Any:
        """Run the model on tensors; for the sessions."""
        try:
            with self._lock, torch.inference_mode():
                return self._model(**inputs, use_cache=True, **self._keep_last)
        except (RuntimeError, ValueError, IndexError) as error:
            # The model's own message may print tensors; its type is told, its text is not.
            kind = type(error).__name__
        if kind == "OutOfMemoryError":
            raise BackendError(
                "The device is out of memory. Use shorter prompts, fewer units or a smaller model."
            )
        raise BackendError(f"The model failed in its forward pass ({kind}).")

    def tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Put rows of integers on the model's device, ``[rows, length]``."""
        return torch.tensor(rows, device=self._model.device)


class _Row:
    """One view with a cache of its own."""

    def __init__(
        self, backend: TransformersBackend, cache: "DynamicCache | None" = None, length: int = 0
    ) -> None:
        self._backend = backend
        self.cache: Any = cache
        self.length = length

    @property
    def is_plain(self) -> bool:
        """Whether the cache is nothing but the attention's keys and values of every position."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        return isinstance(self.cache, DynamicCache) and all(
            type(layer) is DynamicLayer and layer.keys is not None and layer.keys.shape[-2] == self.length
            for layer in self.cache.layers
        )

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Append tokens and return the logits behind the last, ``[1, vocab]``.

        A single row has no padding, so it needs no mask.
        """
        end = self.length + len(tokens)
        inputs: dict[str, Any] = {
            "input_ids": self._backend.tensor([tokens]),
            self._backend.state_name: self.cache,
        }
        if self._backend.accepts_positions:
            inputs["position_ids"] = self._backend.tensor([list(range(self.length, end))])
        output = self._backend.forward(**inputs)
        self.cache = getattr(output, self._backend.state_name)
        self.length = end
        return _last(output.logits)


def _fork(public: _Row, public_ids: Sequence[int], ids: Sequence[int]) -> tuple[_Row, Tensor]:
    """Return a private row that shares the public one's prefix, and its logits ``[1, vocab]``."""
    from transformers.cache_utils import DynamicCache

    shared = 0
    for a, b in zip(public_ids, ids[:-1], strict=False):  # at least one token must be read
        if a != b:
            break
        shared += 1
    cache = DynamicCache()
    for index, layer in enumerate(public.cache.layers):
        cache.update(layer.keys[:, :, :shared], layer.values[:, :, :shared], index)
    row = _Row(public._backend, cache, shared)
    return row, row.read(ids[shared:])


class RowwiseSession:
    """A session in which every view has a cache of its own."""

    def __init__(self, rows: list[_Row], logits: Tensor) -> None:
        self._rows = rows
        self._logits: Tensor | None = logits

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        return _require_open(self._logits)

    def append(self, token: int) -> None:
        """Append a token to every view."""
        _require_open(self._logits)
        self._logits = torch.cat([row.read([token]) for row in self._rows])

    def close(self) -> None:
        """Free the caches."""
        self._rows = []
        self._logits = None


class BatchedSession:
    """A session that advances all views in one batch over a left-padded cache."""

    def __init__(self, backend: TransformersBackend, rows: Sequence[_Row], logits: Tensor) -> None:
        self._backend = backend
        self._logits: Tensor | None = logits
        longest = max(row.length for row in rows)
        self._cache: Any = _stack([row.cache for row in rows], longest)
        self._mask = backend.tensor([[0] * (longest - row.length) + [1] * row.length for row in rows])
        self._positions = backend.tensor([[row.length] for row in rows])  # [rows, 1]

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        return _require_open(self._logits)

    def append(self, token: int) -> None:
        """Append a token to every view."""
        _require_open(self._logits)
        self._mask = torch.cat([self._mask, torch.ones_like(self._positions)], dim=1)  # [rows, length]
        output = self._backend.forward(
            input_ids=torch.full_like(self._positions, token),
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
        )
        self._positions = self._positions + 1
        self._logits = _last(output.logits)

    def close(self) -> None:
        """Free the cache."""
        self._cache = None
        self._logits = None


def _stack(caches: Sequence[Any], longest: int) -> "DynamicCache":
    """Put caches of one row each into one, padded on the left to ``longest`` positions."""
    from transformers.cache_utils import DynamicCache

    def padded(tensor: Tensor) -> Tensor:  # [1, heads, length, size] -> [1, heads, longest, size]
        return torch.nn.functional.pad(tensor, (0, 0, longest - tensor.shape[-2], 0))

    stacked = DynamicCache()
    for index, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        keys = torch.cat([padded(layer.keys) for layer in layers])
        values = torch.cat([padded(layer.values) for layer in layers])
        stacked.update(keys, values, index)
    return stacked


def _last(logits: Tensor) -> Tensor:
    return logits[:, -1, :]  # [rows, length, vocab] -> [rows, vocab]


def _require_open(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise BackendError("The session is closed.")
    return logits
