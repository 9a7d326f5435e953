"""A backend that follows a script instead of a model: exact, instant, for tests and examples."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from dpfusion_core.backends.scoring import log_likelihood
from dpfusion_core.errors import BackendError
from dpfusion_core.tokenization import Tokenizer

_Ids = tuple[int, ...]


class ScriptedBackend:
    """Next-token distributions from a function of the token ids seen so far.

    For a model that says a given text see :meth:`saying`.

    Args:
        next_logits: Maps a view's token ids, prompt and generated, to ``vocab_size`` logits.
        tokenizer: Reads and writes the token ids.
        vocab_size: Number of tokens.
        eos_token_ids: Tokens that end a response.
        context_length: Limit of prompt and response together.
    """

    def __init__(
        self,
        next_logits: Callable[[_Ids], Sequence[float] | Tensor],
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_token_ids: Sequence[int] = (),
        context_length: int | None = None,
    ) -> None:
        # Of a view's prompt and what was generated after it.
        self._script: Callable[[_Ids, _Ids], Sequence[float] | Tensor] = lambda prompt, said: next_logits(
            prompt + said
        )
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.eos_token_ids = frozenset(eos_token_ids)
        self.context_length = context_length
        self.fingerprint = "scripted"
        self.open_sessions = 0
        self._opened: list[tuple[_Ids, ...]] = []

    @classmethod
    def saying(
        cls,
        answer: str | Callable[[str], str],
        *,
        certainty: float = 60.0,
        context_length: int | None = None,
    ) -> "ScriptedBackend":
        """Return a model that wants to say a text, whatever it is asked, for the tests of an app.

        It reads and writes with the tokenizer and the chat template of the embedded model, without its weights.
        Everything else is real: views, fusion, accounting, the ledger, grammars and streams.

        Args:
            answer: The text; or a function from the prompt of one view to its text, for a model that
                would say another thing where it sees what is private.
            certainty: Log-odds of the next token of the text against any other, in nats. A grammar can
                still force another.
            context_length: Limit of prompt and response together.

        Example:
            >>> from dpfusion_core import FusionEngine, Message
            >>> backend = ScriptedBackend.saying("She lives in the north.")
            >>> engine = FusionEngine(backend)
            >>> record = Message("user", "She lives in Trondheim.", is_private=True, unit="record-17")
            >>> engine.generate([record, Message("user", "Where?")], epsilon=8.0).text
            'She lives in the north.'
            >>> public, private = backend.requests[-1]  # what the model was shown
            >>> "Trondheim" in public, "Trondheim" in private
            (False, True)
        """
        from transformers import AutoTokenizer

        from dpfusion_core.tiny import model_path

        reader: Any = AutoTokenizer.from_pretrained(model_path())
        end = int(reader.eos_token_id)
        vocabulary = len(reader)

        def script(prompt: _Ids, said: _Ids) -> Tensor:
            text = answer if isinstance(answer, str) else answer(reader.decode(list(prompt)))
            logits = torch.zeros(vocabulary, dtype=torch.float64)
            logits[_next_token(reader, text, said, end)] = certainty
            return logits

        backend = cls(lambda row: script(row, ()), reader, vocabulary, [end], context_length)
        backend._script = script
        return backend

    @property
    def requests(self) -> list[tuple[str, ...]]:
        """The prompts of every request so far: its public view, then the private view of each unit."""
        return [tuple(map(self.tokenizer.decode, map(list, prompts))) for prompts in self._opened]

    def open(self, prompts: Sequence[Sequence[int]]) -> "ScriptedSession":
        """Begin a request; ``open_sessions`` counts those that are not closed yet."""
        self.open_sessions += 1
        views = tuple(map(tuple, prompts))
        self._opened.append(views)
        return ScriptedSession(self, views)

    def together(self) -> "ScriptedBackend":
        """Return what begins requests that advance together: nothing is gained by it here."""
        return self

    def score(self, prompt: _Ids, said: _Ids) -> Tensor:
        """Return the logits that follow one view and what was generated after it, ``[vocab]``."""
        return torch.as_tensor(self._script(prompt, said), dtype=torch.float64)


class ScriptedSession:
    """A session of a :class:`ScriptedBackend`."""

    def __init__(self, backend: ScriptedBackend, prompts: tuple[_Ids, ...]) -> None:
        self._backend = backend
        self._prompts = prompts
        self._said: _Ids = ()
        self._is_open = True

    def logits(self) -> Tensor:
        """Return the scripted logits of every view, ``[rows, vocab]``."""
        if not self._is_open:
            raise BackendError("The session is closed.")
        return torch.stack([self._backend.score(prompt, self._said) for prompt in self._prompts])

    def append(self, token: int) -> None:
        """Append a token to every view."""
        self._said = (*self._said, token)

    def score(self, continuations: Sequence[Sequence[int]], ends: Collection[int]) -> Tensor:
        """Return how likely the script makes whole continuations of every view, ``[rows, continuations]``."""
        if not self._is_open:
            raise BackendError("The session is closed.")
        return torch.stack(
            [
                torch.stack([self._likelihood(prompt, tuple(each), ends) for each in continuations])
                for prompt in self._prompts
            ]
        )

    def _likelihood(self, prompt: _Ids, tokens: _Ids, ends: Collection[int]) -> Tensor:
        steps = range(len(tokens) + 1)
        logits = [self._backend.score(prompt, (*self._said, *tokens[:n])) for n in steps]
        return log_likelihood(torch.stack(logits), tokens, ends)

    def close(self) -> None:
        """End the session."""
        if self._is_open:
            self._is_open = False
            self._backend.open_sessions -= 1


def _next_token(reader: Any, text: str, said: _Ids, end: int) -> int:
    """Return the token that leads on towards a text from what has been said, however that is cut into tokens."""
    wanted = tuple(reader(text, add_special_tokens=False)["input_ids"])
    if said == wanted[: len(said)]:
        rest = wanted[len(said) :]
    else:  # a grammar has chosen other tokens
        spoken = reader.decode(list(said))
        left = text[len(spoken) :] if text.startswith(spoken) else ""
        rest = tuple(reader(left, add_special_tokens=False)["input_ids"]) if left else ()
    return int(rest[0]) if rest else end
