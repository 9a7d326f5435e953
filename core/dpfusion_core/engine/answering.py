"""The engine's own model as one that answers plain conversations, for a consensus of documents."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dpfusion_core.backends import Backend, Opener
from dpfusion_core.consensus.views import plain_text
from dpfusion_core.constraints import Grammars
from dpfusion_core.engine.choosing import prepare_choice, run_choice
from dpfusion_core.engine.requests import Request, prepare
from dpfusion_core.engine.running import Start, run, run_together
from dpfusion_core.errors import BackendError, DPFusionError, ViewError
from dpfusion_core.generation import Chunk, GenerationResult
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions, Options, of_parts
from dpfusion_core.placeholders import fixed_placeholder

YES_AND_NO = ("yes", "Yes", "no", "No")
AT_ONCE = 16
"""Conversations that are read together: what they hold in memory at a time."""


class OwnModel:
    """Answers conversations with the engine's model, without any privacy machinery.

    Args:
        backend: The model.
        grammars: Makes the masks for output in a given form.
        at_once: How many conversations share forward passes.
    """

    def __init__(self, backend: Backend, grammars: Grammars, *, at_once: int = AT_ONCE) -> None:
        self._backend = backend
        self._grammars = grammars
        self._at_once = at_once

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations greedily; see :class:`~dpfusion_core.consensus.Answerer`.

        Raises:
            DPFusionError: If one conversation alone is asked and cannot be answered.
        """
        given: GenerationOptions = {"max_tokens": max_tokens, "temperature": 0.0, "json_schema": json_schema}
        found: list[str | None] = []
        for start in range(0, len(conversations), self._at_once):
            chats = conversations[start : start + self._at_once]
            answers = self._together(chats, given)
            for chat, answer in zip(chats, answers, strict=True):
                # A failure may be of another conversation's making: alone, it is its own.
                said = self._together([chat], given)[0] if isinstance(answer, BackendError) else answer
                if isinstance(said, DPFusionError) and len(conversations) == 1:
                    raise said
                found.append(said.text if isinstance(said, GenerationResult) else None)
        return found

    def says_yes(self, conversations: Sequence[Sequence[Message]]) -> list[bool | None]:
        """Say which of yes and no is likelier, by the likelihood of the whole word."""
        return [self._says_yes(each) for each in conversations]

    def write(self, messages: Sequence[Message], options: Options) -> Generator[Chunk | None, None, None]:
        """Answer a public conversation piece by piece, sampled as the request says."""
        names = (*of_parts("sampling"), "json_schema", "logits_processors")
        given: Any = {name: getattr(options, name) for name in names}
        yield from run(self._request(messages, given), self._backend, None, self._backend)

    def _says_yes(self, messages: Sequence[Message]) -> bool | None:
        try:
            request = prepare_choice(
                _plain(messages),
                YES_AND_NO,
                {"temperature": 0.0},
                backend=self._backend,
                ledger=None,
                narrowing=None,
                placeholder=fixed_placeholder(),
            )
            return YES_AND_NO[run_choice(request, self._backend, None).index].casefold() == "yes"
        except (ViewError, BackendError):
            return None

    def _together(
        self, chats: Sequence[Sequence[Message]], given: GenerationOptions
    ) -> list[GenerationResult | DPFusionError]:
        requests: list[Start | DPFusionError] = []
        for chat in chats:
            try:
                requests.append(partial(self._start, self._request(chat, given)))
            except ViewError as error:  # too long, or refused by the template
                requests.append(error)
        found: list[GenerationResult | DPFusionError] = []
        for _ in run_together(requests, self._backend, found, return_exceptions=True):
            pass
        return found

    def _start(self, request: Request, opener: Opener) -> Generator[Chunk | None, None, None]:
        return run(request, self._backend, None, opener)

    def _request(self, messages: Sequence[Message], given: GenerationOptions) -> Request:
        """Prepare a conversation for plain generation."""
        return prepare(
            _plain(messages),
            given,
            backend=self._backend,
            grammars=self._grammars,
            ledger=None,
            narrowing=None,
            placeholder=fixed_placeholder(),
        )


def _plain(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation whose private text is shown to the model as it is. It is never printed."""
    return [replace(each, content=plain_text(each), is_private=False, unit=None) for each in messages]
