"""What an LLM is made with: its fields, what they are checked for, and the engine that is made of them."""

import pickle
from collections.abc import Callable, Mapping, Set
from typing import Any, Literal, Self

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import BaseModel as PlainModel

from dpfusion_core.adapters import Unmarked, check_parts, effective_unmarked, load_engine
from dpfusion_core.adapters.fields import OptionFields
from dpfusion_core.backends import Backend
from dpfusion_core.choices import check_choices
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import DEFAULT_UNIT, Segment
from dpfusion_core.options import ALIASES, GenerationOptions, default_of, read_options
from dpfusion_core.privacy.guarantee import Retrieval
from dpfusion_core.tool_calling import supports_tools
from dpfusion_core.units import unit_id
from llamaindex_dpfusion.options import OWN, checked_fields, engine_options, named_fields
from llamaindex_dpfusion.prompts.segments import Rule

PUBLIC_ARGUMENTS = (
    "query_str",
    "tools_str",
    "num_choices",
    "max_outputs",
    "num_questions",
    "num_chunks",
    "max_keywords",
    "max_knowledge_triplets",
)
"""Names of template arguments that hold no document: the question, tool descriptions, and counts."""

ENGINE_FIELDS = frozenset(
    {"model", "tokenizer", "ledger", "tagger", "placeholder", "device", "dtype", "device_map", "model_kwargs"}
)
"""Fields that the engine is made of."""

_PLACEHOLDER = "____"
_DEFAULTS = {"model": "dpfusion-tiny", "dtype": "auto", "placeholder": _PLACEHOLDER, "model_kwargs": {}}
_UNLIMITED = 32768
"""Context that is said of a model without a limit of its own, in tokens."""
ENDLESS = 2**30
"""Context that is said where no prompt ever holds more than one document."""


class ConfiguredLLM(OptionFields, FunctionCallingLLM):
    """The settings of an LLM, typed and checked, and its engine; :class:`DPFusionLLM` says what each means.

    What answers for an LLM takes one of these, and knows nothing of how LlamaIndex asks it.
    """

    model: Any = Field(default="dpfusion-tiny", description="Name, path or ready model.", exclude=True)
    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    ledger: PrivacyLedger | None = Field(default=None, exclude=True, repr=False)
    tagger: Any = Field(default=None, exclude=True, repr=False)
    placeholder: str | Callable[[Segment], str] = Field(default=_PLACEHOLDER, exclude=True, repr=False)
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
    max_retries: int = Field(default=0, ge=0, strict=True)
    device: Any = Field(default=None, exclude=True)
    dtype: Any = Field(default="auto", exclude=True)
    device_map: Any = Field(default=None, exclude=True)
    model_kwargs: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    choices: list[str] | None = None
    context_window: int | None = Field(default=None, gt=0, strict=True)
    public_arguments: tuple[str, ...] = PUBLIC_ARGUMENTS
    unmarked: Unmarked | None = None
    unit: str = Field(default=DEFAULT_UNIT, min_length=1)
    complete_policy: Literal["private", "redact", "error", "public"] = "private"

    _engine: Any = PrivateAttr(default=None)
    _given: FusionEngine | None = PrivateAttr(default=None)
    _retrieval: Retrieval = PrivateAttr(default="not covered")

    def __init__(
        self, model: Any = "dpfusion-tiny", *, engine: FusionEngine | None = None, **kwargs: Any
    ) -> None:
        said = {**({} if model == "dpfusion-tiny" else {"model": model}), **kwargs}
        fields = named_fields(said, self.known_fields(), type(self).__name__)
        with checked_fields(type(self).__name__):
            super().__init__(**fields)
        self._engine = self._given = engine
        self._check()

    @classmethod
    def known_fields(cls) -> Set[str]:
        """Return the names of the fields that it may be made with."""
        return cls.model_fields.keys()

    @classmethod
    def engine_fields(cls) -> Set[str]:
        """Return the names of the fields that the engine is made of."""
        return ENGINE_FIELDS

    def __setattr__(self, name: str, value: Any) -> None:
        name = ALIASES.get(name, name)
        if name in type(self).model_fields:
            value = getattr(self.model_copy(update={name: value}), name)  # or the LLM stays as it is
            self._engine = self._given if name in self.engine_fields() else self._engine
        super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other fields; unknown ones are refused.

        Raises:
            PrivacyParameterError: As for the LLM itself.
        """
        changes = named_fields(update or {}, self.known_fields(), type(self).__name__)
        copied = super().model_copy(deep=deep)
        with checked_fields(type(self).__name__):
            for name, value in changes.items():
                self.__pydantic_validator__.validate_assignment(copied, name, value)
        copied._check()
        if self.engine_fields() & changes.keys():
            copied._engine = self._given
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return a copy that shares the model, the ledger and other ready parts: there is one of each."""
        shared = [
            self._engine,
            self._given,
            self.callback_manager,
            *(getattr(self, name) for name in self.engine_fields()),
        ]
        return super().__deepcopy__({**(memo or {}), **{id(part): part for part in shared}})

    def _check(self) -> None:
        """Refuse fields that contradict each other or a ready engine, and options that an engine would refuse."""
        engine = self._given
        if engine is not None:
            if not isinstance(engine, FusionEngine):
                raise PrivacyParameterError("Expected engine to be a FusionEngine.")
            for name in sorted(ENGINE_FIELDS):
                value = getattr(self, name)
                if value != _DEFAULTS.get(name) and value is not getattr(engine, name, 0):
                    raise PrivacyParameterError(
                        f"A ready engine has its own {name}: give {name} to the FusionEngine, or a model in place "
                        "of the engine."
                    )
        else:
            check_parts(**{name: getattr(self, name) for name in ENGINE_FIELDS - {"ledger"}})
        if self.choices is not None:
            check_choices(self.choices)
        unit_id(self.unit)
        read_options(self.engine_options(), "DPFusionLLM")

    # -- To and from other processes --

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle may hold, without touching the live object.

        Raises:
            UnsupportedError: If something is set that cannot be built again from names and numbers: a ledger
                that a pickle leaves out would charge nobody.
        """
        if ready := self._ready_parts():
            raise UnsupportedError(
                f"An LLM with a ready {ready[0]} cannot be pickled. Make the LLM anew in the other process."
            )
        state = PlainModel.__getstate__(self)
        kept = dict(state["__dict__"])
        kept.pop("callback_manager", None)  # of this process
        for name, value in kept.items():
            try:
                pickle.dumps(value)
            except Exception:  # noqa: BLE001  the question is only whether it raises
                failed = name
                break
        else:
            return {**state, "__dict__": kept, "__pydantic_private__": None}
        raise UnsupportedError(
            f"The LLM's {failed} cannot be pickled. Make the LLM anew in the other process."
        )

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the settings by name; what no name or number says is listed under ``"ready"``."""
        said = {"model": self.model, "device": self.device, "dtype": self.dtype}
        named = {name: value for name, value in said.items() if isinstance(value, str)}
        unsaid = [name for name in ("model_kwargs", "device_map") if getattr(self, name)]
        return {**super().to_dict(**kwargs), **named, "ready": [*self._ready_parts(), *unsaid]}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Make an LLM from its settings; parts that were ready objects are to be given again.

        Raises:
            PrivacyParameterError: If one of those is not given: an LLM that had a ledger shall not come back
                without one.
        """
        missing = [name for name in data.get("ready", ()) if name not in kwargs]
        if missing:
            raise PrivacyParameterError(
                f"The LLM was made with a {missing[0]}, which its settings cannot hold. Give it again: "
                f"from_dict(data, {missing[0]}=...)."
            )
        return super().from_dict({name: value for name, value in data.items() if name != "ready"}, **kwargs)

    def _ready_parts(self) -> list[str]:
        """Return the names of what no name or number says."""
        parts = [("engine", self._given), ("ledger", self.ledger), ("tagger", self.tagger)]
        ready = [name for name, part in [*parts, ("tokenizer", self.tokenizer)] if part is not None]
        ready += [] if isinstance(self.placeholder, str) else ["placeholder"]
        ready += ["items"] if callable(self.items) else []
        ready += ["llm"] if "llm" in type(self).model_fields else []
        return [*ready, *([] if isinstance(self.model, str) else ["model"])]

    # -- What is made of the settings --

    @property
    def engine(self) -> FusionEngine:
        """The engine; the first use loads the model."""
        if self._engine is None:
            self._engine = load_engine(**{name: getattr(self, name) for name in ENGINE_FIELDS})
        engine: FusionEngine = self._engine
        return engine

    @property
    def backend(self) -> Backend | None:
        """The model; None if all that is known of it is that it answers."""
        return getattr(self.engine, "backend", None)

    @property
    def has_chat_template(self) -> bool:
        """Whether the model reads conversations, not only ready prompts."""
        return self.backend is None or bool(getattr(self.backend.tokenizer, "chat_template", None))

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model."""
        backend = self.backend
        if backend is None:
            raise NotImplementedError
        return LLMMetadata(
            context_window=self.context_window or self._window(backend.context_length),
            num_output=self.max_tokens or default_of("max_tokens"),
            is_chat_model=self.has_chat_template,
            is_function_calling_model=supports_tools(backend.tokenizer) and self.mechanism != "consensus",
            model_name=self.model if isinstance(self.model, str) else backend.fingerprint,
            system_role=MessageRole.SYSTEM,
        )

    def with_covered_retrieval(self) -> Self:
        """Return a copy whose documents are all taken by a :class:`~llamaindex_dpfusion.DPThresholdRetriever`."""
        copied = self.model_copy()
        copied._retrieval = "covered"
        return copied

    def _window(self, length: int | None) -> int:
        """Return what LlamaIndex may pack into one prompt: a consensus reads each document by itself."""
        return ENDLESS if self.mechanism == "consensus" else length or _UNLIMITED

    def rule(self, options: GenerationOptions | None = None) -> Rule:
        """Return what holds for text without marks in a call with these options, by default the LLM's own."""
        options = self.engine_options() if options is None else options
        has_ledger = self.engine.ledger is not None
        has_budget = has_ledger or any(options.get(name) is not None for name in ("epsilon", "beta"))
        return Rule(effective_unmarked(self.unmarked, has_budget=has_budget), has_ledger, self.unit)

    def engine_options(
        self, said: dict[str, Any] | None = None, *, is_choice: bool = False
    ) -> GenerationOptions:
        """Return the options of the engine: those of the LLM, and on top of them those of one call.

        Args:
            said: The options of the call.
            is_choice: Whether the answer is one of several choices, not text.

        Raises:
            PrivacyParameterError: If an option of the call is unknown.
        """
        own = {name: getattr(self, name) for name in OWN}
        options = engine_options(own, said or {}, is_choice=is_choice)
        if options.get("mechanism") == "consensus":
            options["retrieval"] = self._retrieval
        return options
