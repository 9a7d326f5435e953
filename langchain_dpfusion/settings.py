"""The settings of a chat model, each with its type: what checks, options and engines are read from."""

import secrets
from typing import Any

from langchain_core.utils import secret_from_env
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from dpfusion_core.adapters import Unmarked
from dpfusion_core.adapters.fields import OptionFields
from dpfusion_core.engine import FusionEngine
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy.guarantee import Retrieval
from langchain_dpfusion.marked_messages import PLACEHOLDER

ENGINE_PARTS = (
    "tokenizer",
    "device",
    "dtype",
    "device_map",
    "model_kwargs",
    "placeholder",
    "ledger",
    "tagger",
)
"""Fields that an engine is made of, beside its model."""


class SealedSettings(OptionFields):
    """The fields of every chat model whose input is sealed: the options of its calls, and these."""

    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_retries: int = Field(default=0, ge=0)
    ledger: PrivacyLedger | None = None
    placeholder: Any = PLACEHOLDER
    unmarked: Unmarked | None = None
    retrieval: Retrieval | None = None
    trace_private: bool = False
    streaming: bool = False
    cache_key: SecretStr | None = Field(
        default_factory=secret_from_env("DPFUSION_CACHE_KEY", default=None), exclude=True, repr=False
    )

    _instance: str = PrivateAttr(default_factory=lambda: secrets.token_hex(8))

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    @property
    def instance(self) -> str:
        """What tells this instance from all others."""
        return self._instance

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return type(self).__name__

    @property
    def charged_ledger(self) -> PrivacyLedger | None:
        """The ledger that calls are charged to."""
        return self.ledger

    @property
    def shown_placeholder(self) -> str:
        """What callbacks and traces see in the place of private text."""
        return self.placeholder if isinstance(self.placeholder, str) else PLACEHOLDER

    @property
    def ready_parts(self) -> dict[str, Any]:
        """The fields that are ready objects, which no name or number says."""
        parts = {"ledger": self.ledger}
        parts |= {name: value for name in ("placeholder", "items") if callable(value := getattr(self, name))}
        return {name: part for name, part in parts.items() if part is not None}


class ChatSettings(SealedSettings):
    """The fields of a ``ChatDPFusion``, where they are explained."""

    model: Any = None
    tokenizer: Any = Field(default=None, exclude=True)
    engine: Any = Field(default=None, exclude=True)
    device: Any = None
    dtype: Any = "auto"
    device_map: Any = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    tagger: Any = Field(default=None, exclude=True)

    _engines: dict[str, FusionEngine] = PrivateAttr(default_factory=dict)

    @property
    def engines(self) -> dict[str, FusionEngine]:
        """The engines that were built for these settings, by what they were built of."""
        return self._engines

    @property
    def model_name(self) -> str:
        """Name of the model, whether it was given by name, ready, or in an engine."""
        if isinstance(self.model, str):
            return self.model
        if self.engine is not None:
            return str(self.engine.backend.fingerprint).split(",")[0]
        name = getattr(getattr(self.model, "config", None), "_name_or_path", "")
        return name or type(self.model).__name__

    @property
    def charged_ledger(self) -> PrivacyLedger | None:
        """The ledger that calls are charged to."""
        return self.ledger if self.engine is None else self.engine.ledger

    @property
    def ready_parts(self) -> dict[str, Any]:
        """The fields that are ready objects, which no name or number says."""
        parts = {name: getattr(self, name) for name in ("engine", "tokenizer", "tagger")}
        parts |= {} if isinstance(self.model, str) else {"model": self.model}
        return {name: part for name, part in parts.items() if part is not None} | super().ready_parts
