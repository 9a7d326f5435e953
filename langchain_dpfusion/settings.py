"""The settings of a chat model, each with its type: what checks, options and engines are read from."""

from typing import Any

from langchain_core.utils import secret_from_env
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from dpfusion_core.adapters import Unmarked
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.options import OnExhausted
from dpfusion_core.privacy import Accounting, Neighbours, Spending
from langchain_dpfusion.messages import PLACEHOLDER


class ChatSettings(BaseModel):
    """The fields of a ``ChatDPFusion``, where they are explained; those that are None say nothing."""

    model: Any = None
    tokenizer: Any = Field(default=None, exclude=True)
    engine: Any = Field(default=None, exclude=True)
    temperature: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: list[str] | None = None
    timeout: float | None = None
    max_retries: int = Field(default=0, ge=0)
    seed: int | None = None
    device: Any = None
    dtype: Any = "auto"
    device_map: Any = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    epsilon: float | None = None
    delta: float | None = None
    order: float | None = None
    beta: float | None = None
    mixing_loss: float | None = None
    responses: int | None = None
    accounting: Accounting | None = None
    spending: Spending | None = None
    neighbours: Neighbours | None = None
    on_exhausted: OnExhausted | None = None
    ledger: PrivacyLedger | None = None
    tagger: Any = Field(default=None, exclude=True)
    placeholder: Any = PLACEHOLDER
    unmarked: Unmarked | None = None
    trace_private: bool = False
    streaming: bool = False
    cache_key: SecretStr | None = Field(
        default_factory=secret_from_env("DPFUSION_CACHE_KEY", default=None), exclude=True, repr=False
    )

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    @property
    def model_name(self) -> str:
        """Name of the model, whether it was given by name, ready, or in an engine."""
        if isinstance(self.model, str):
            return self.model
        if self.engine is not None:
            return str(self.engine.backend.fingerprint).split(",")[0]
        name = getattr(getattr(self.model, "config", None), "_name_or_path", "")
        return name or type(self.model).__name__
