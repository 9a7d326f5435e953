"""The engine behind a framework's model: from a model's name or path, or a ready model."""

from collections.abc import Mapping
from typing import Any

from dpfusion_core.backends import TransformersBackend
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.tagging import Tagger
from dpfusion_core.tagging.narrowing import Narrowing

_LOADING: Mapping[str, Any] = {"device": None, "dtype": "auto", "device_map": None, "model_kwargs": {}}
"""How weights are loaded, and what says nothing."""


def check_parts(
    model: Any,
    *,
    tokenizer: Any = None,
    placeholder: str | Placeholder = "____",
    tagger: Tagger | Narrowing | None = None,
    **loading: Any,
) -> None:
    """Refuse what :func:`load_engine` could not read, before anything is loaded; for the arguments see there.

    Raises:
        PrivacyParameterError: If an argument has the wrong form, or says nothing beside the others.
    """
    if (tokenizer is None) != isinstance(model, str):
        raise PrivacyParameterError("A ready model and its tokenizer go together: give both, or a name.")
    for name, value in loading.items():
        if not isinstance(model, str) and value not in (None, _LOADING[name]):
            raise PrivacyParameterError(f"A ready model is loaded already: {name!r} says nothing.")
    if not (isinstance(placeholder, str) or callable(placeholder)):
        raise PrivacyParameterError("Expected placeholder to be a string or a function of a segment.")
    if tagger is not None and not isinstance(tagger, Narrowing):
        Narrowing(tagger)


def load_engine(
    model: Any,
    *,
    tokenizer: Any = None,
    device: Any = None,
    dtype: Any = "auto",
    device_map: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    placeholder: str | Placeholder = "____",
    ledger: PrivacyLedger | None = None,
    tagger: Tagger | Narrowing | None = None,
) -> FusionEngine:
    """Return an engine for a model. Weights that are named are shared by all in the process who name them alike.

    Args:
        model: Name on the hub, folder, ``"dpfusion-tiny"``, or a ready ``transformers`` model.
        tokenizer: Of a ready model.
        device: Where the named model runs.
        dtype: Of its weights.
        device_map: For models over several devices.
        model_kwargs: Further arguments of ``from_pretrained``.
        placeholder: See :class:`~dpfusion_core.FusionEngine`, as for the rest.
        ledger: Keeps what each privacy unit has lost.
        tagger: Narrows private messages to private phrases.

    Raises:
        BackendError: If the model cannot be loaded.

    Example:
        >>> one, two = load_engine("dpfusion-tiny"), load_engine("dpfusion-tiny", placeholder="...")
        >>> one.backend is two.backend
        True
    """
    if isinstance(model, str):
        options = dict(model_kwargs or {})
        backend = shared_backend(model, device=device, dtype=dtype, device_map=device_map, **options)
    else:
        backend = TransformersBackend(model, tokenizer)
    return FusionEngine(backend, placeholder=placeholder, ledger=ledger, tagger=tagger)
