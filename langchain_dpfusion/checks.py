"""Settings that are checked whenever they are made or changed, before anything is loaded or computed."""

from abc import abstractmethod
from collections.abc import Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from langchain_core.language_models import BaseChatModel
from pydantic import BaseModel, ValidationError, field_serializer, model_validator

from dpfusion_core.adapters import check_parts, check_unmarked
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.options import canonical, read_options
from langchain_dpfusion.options import engine_options, refuse_gone
from langchain_dpfusion.settings import ENGINE_PARTS, ChatSettings, SealedSettings

# What other chat models are given and a local one has no use for.
_FOREIGN = frozenset({"api_key"})


class CheckedSettings(SealedSettings):
    """The settings of a chat model; what is refused leaves them as they are."""

    @classmethod
    def known_fields(cls) -> Set[str]:
        """Return the names of the fields that it may be made with."""
        return cls.model_fields.keys()

    @abstractmethod
    def check_fields(self) -> None:
        """Refuse fields that do not go together.

        Raises:
            PrivacyParameterError: If there are some.
        """

    if not TYPE_CHECKING:  # checkers take the fields as the arguments

        def __init__(self, **fields: Any) -> None:
            fields = named_fields(fields, type(self))
            with errors_as(PrivacyParameterError, partial(problem_of, type(self)), only=ValidationError):
                super().__init__(**fields)

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_"):
                ((name, value),) = named_fields({name: value}, type(self)).items()
                # Not LangChain's own fields, which it sets itself while a model is made: on the trial, too.
                if name not in BaseChatModel.model_fields:
                    value = self._checked({name: value})[name]
            super().__setattr__(name, value)

    def _checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return changes as the fields have them; they are tried on settings that nobody uses."""
        changes = named_fields(changes, type(self))
        tried = type(self)(**{name: getattr(self, name) for name in type(self).known_fields()} | changes)
        return {name: getattr(tried, name) for name in changes}

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        self.check_fields()
        return self

    @field_serializer("ledger")
    def _name_ledger(self, ledger: PrivacyLedger | None) -> str | None:
        # A model that is built from a dump must be given its ledger again: this name is refused there.
        return None if ledger is None else "a PrivacyLedger, which is not dumped"

    def __deepcopy__(self, memo: Any = None) -> Self:
        """Return a copy that shares the weights, the ledger and the tagger."""
        return self.model_copy()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy that shares the weights, the ledger and the tagger; changes are checked.

        Raises:
            PrivacyParameterError: If a change is unknown, out of range or contradictory.
        """
        return super().model_copy(update=self._checked(update) if update else None)

    def __getstate__(self) -> Any:
        """Pickle what can be built again from names and numbers; keys stay here.

        Raises:
            UnsupportedError: If a field is a ready object.
        """
        for name in self.ready_parts:
            raise UnsupportedError(
                f"A {type(self).__name__} with a ready {name} cannot be pickled: it may hold private text. Build it "
                "where it is needed."
            )
        state = super().__getstate__()
        state["__dict__"] = {**state["__dict__"], "cache_key": None}
        return state


def named_fields(fields: Mapping[str, Any], model: type[CheckedSettings]) -> dict[str, Any]:
    """Return arguments of a chat model under the names of its fields.

    Raises:
        PrivacyParameterError: If a name is unknown.
    """
    refuse_gone(fields)
    return canonical(fields, model.known_fields() | _FOREIGN, model.__name__)


def problem_of(model: type[BaseModel], error: ValidationError) -> str:
    """Say what is wrong with the fields of a chat model; values are not quoted."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or model.__name__
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def check_settings(settings: ChatSettings) -> None:
    """Refuse fields of a chat model that do not go together, and options that the engine would refuse.

    Raises:
        PrivacyParameterError: If a field is out of range, or contradicts another one.
    """
    model, engine = settings.model, settings.engine
    if (model is None) == (engine is None):
        raise PrivacyParameterError("Give a model or an engine: ChatDPFusion(model='dpfusion-tiny').")
    parts = {name: getattr(settings, name) for name in ENGINE_PARTS}
    if engine is None:
        parts.pop("ledger")
        check_parts(model, **parts)
    elif not isinstance(engine, FusionEngine):
        raise PrivacyParameterError("Expected engine to be a FusionEngine.")
    else:
        fields = type(settings).model_fields
        for name, value in parts.items():
            if value is not None and value != fields[name].get_default(call_default_factory=True):
                raise PrivacyParameterError(
                    f"A ready engine has its own {name}: give it to the FusionEngine."
                )
    check_unmarked(settings.unmarked)
    read_options(engine_options(settings, {}, None), "ChatDPFusion")
