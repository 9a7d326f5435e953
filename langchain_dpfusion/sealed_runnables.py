"""Runnables around a chat model that see sealed input, so that their callbacks and traces do.

``with_retry``, ``with_fallbacks`` and ``with_structured_output`` put a chain around the model, which tells
callbacks its input before the model is asked. A binding around that chain seals the input first; a
fallback that is another model gets placeholders.
"""

import functools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.runnables.config import get_config_list
from pydantic import Field

from dpfusion_core.errors import DPFusionError
from langchain_dpfusion.options import check_call, refuse_options


class Sealer(Protocol):
    """What seals an input: a chat model."""

    def prompt(self, model_input: Any, call: Mapping[str, Any] | None) -> ChatPromptValue:
        """Return an input as sealed messages; with the options of its call, it is refused if need be."""


class SealedBinding(RunnableBinding[Any, Any]):
    """A binding whose input is sealed, or refused, before anything else sees it.

    Args:
        llm: The chat model that seals.
        call: Options that the calls within have, and this binding's ``kwargs`` do not say.
    """

    llm: Any = Field(default=None, exclude=True, repr=False)
    call: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    @classmethod
    def of(cls, runnable: Runnable[Any, Any], llm: Sealer, call: Mapping[str, Any] | None = None) -> Any:
        """Return a runnable, as it is or with what it is bound to, behind a seal."""
        if type(runnable) is RunnableBinding:
            fields = {name: getattr(runnable, name) for name in RunnableBinding.model_fields}
            return cls(**fields, llm=llm, call=dict(call or {}))
        return cls(bound=runnable, llm=llm, call=dict(call or {}))

    def _again(self, binding: Any) -> Any:
        binding.llm, binding.call = self.llm, self.call
        return binding

    def _sealed(self, model_input: Any, kwargs: Mapping[str, Any]) -> ChatPromptValue:
        return cast(Sealer, self.llm).prompt(model_input, {**self.call, **self.kwargs, **kwargs})

    def bind(self, **kwargs: Any) -> Any:
        """Return the runnable with further arguments."""
        options = check_call(kwargs) if self.bound is self.llm else kwargs
        return self._again(super().bind(**options))

    def with_config(self, config: Any = None, **kwargs: Any) -> Any:
        """Return the runnable with a config.

        Raises:
            PrivacyParameterError: If it holds an option of calls, which no config is read for.
        """
        refuse_options({**(config or {}), **kwargs})
        return self._again(super().with_config(config, **kwargs))

    def with_listeners(self, **listeners: Any) -> Any:
        """Return the runnable with listeners."""
        return self._again(super().with_listeners(**listeners))

    def with_types(self, input_type: Any = None, output_type: Any = None) -> Any:
        """Return the runnable with types."""
        return self._again(super().with_types(input_type, output_type))

    def with_retry(self, **kwargs: Any) -> Any:
        """Return the runnable, tried again when it fails."""
        return self._again(super().with_retry(**kwargs))

    def with_fallbacks(self, fallbacks: Sequence[Any], **kwargs: Any) -> Any:
        """Return the runnable with others that are asked when it fails; they get placeholders."""
        call = {**self.call, **self.kwargs}
        return SealedBinding.of(super().with_fallbacks(fallbacks, **kwargs), self.llm, call)

    def __getattr__(self, name: str) -> Any:
        """Return what the bound runnable has; what it makes is sealed too."""
        attribute = super().__getattr__(name)
        if name not in ("bind_tools", "with_structured_output"):
            return attribute

        @functools.wraps(attribute)
        def make(*args: Any, **kwargs: Any) -> Any:
            made = attribute(*args, **kwargs)
            return made if isinstance(made, SealedBinding) else SealedBinding.of(made, self.llm, self.call)

        return make

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        """Run on sealed input."""
        return super().invoke(self._sealed(input, kwargs), config, **kwargs)

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        """Run on sealed input."""
        return await super().ainvoke(self._sealed(input, kwargs), config, **kwargs)

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Run on sealed input."""
        return super().stream(self._sealed(input, kwargs), config, **kwargs)

    def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Run on sealed input."""
        return super().astream(self._sealed(input, kwargs), config, **kwargs)

    def astream_events(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        """Run on sealed input."""
        return super().astream_events(self._sealed(input, kwargs), config, **kwargs)

    def transform(self, input: Iterator[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Run on input that comes in parts, once it is whole."""
        return Runnable.transform(self, input, config, **kwargs)

    def atransform(self, input: AsyncIterator[Any], config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Run on input that comes in parts, once it is whole."""
        return Runnable.atransform(self, input, config, **kwargs)

    def batch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Run on sealed inputs."""
        outputs, positions, sealed, configs = self._sort(inputs, config, return_exceptions, kwargs)
        found = super().batch(sealed, configs, return_exceptions=return_exceptions, **kwargs)
        for position, output in zip(positions, found, strict=True):
            outputs[position] = output
        return outputs

    async def abatch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Run on sealed inputs."""
        outputs, positions, sealed, configs = self._sort(inputs, config, return_exceptions, kwargs)
        found = await super().abatch(sealed, configs, return_exceptions=return_exceptions, **kwargs)
        for position, output in zip(positions, found, strict=True):
            outputs[position] = output
        return outputs

    def batch_as_completed(self, inputs: Sequence[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Run on sealed inputs, each on its own."""
        return Runnable.batch_as_completed(self, inputs, config, **kwargs)

    def abatch_as_completed(
        self, inputs: Sequence[Any], config: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Run on sealed inputs, each on its own."""
        return Runnable.abatch_as_completed(self, inputs, config, **kwargs)

    def _sort(
        self, inputs: list[Any], config: Any, return_exceptions: bool, kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], list[int], list[ChatPromptValue], list[Any]]:
        """Return the errors of inputs that are refused at their places, and the others, sealed."""
        outputs: list[Any] = [None] * len(inputs)
        positions: list[int] = []
        sealed: list[ChatPromptValue] = []
        for position, each in enumerate(inputs):
            try:
                sealed.append(self._sealed(each, kwargs))
                positions.append(position)
            except DPFusionError as error:
                if not return_exceptions:
                    raise
                outputs[position] = error
        configs = get_config_list(config, len(inputs)) if inputs else []
        return outputs, positions, sealed, [configs[position] for position in positions]
