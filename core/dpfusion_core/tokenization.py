"""Tokens and text: what the library asks of a tokenizer, and text that may be shown as it grows."""

from collections.abc import Sequence
from typing import Any, Protocol

from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as

_UNFINISHED = "\ufffd"  # what tokenizers write for bytes that do not make a character yet


class Tokenizer(Protocol):
    """What the library asks of a tokenizer; every ``transformers`` tokenizer fits."""

    chat_template: Any

    def apply_chat_template(self, conversation: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Render messages as a prompt."""
        ...

    def __call__(self, text: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Tokenise text."""
        ...

    def decode(self, token_ids: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the text of token ids."""
        ...


class Detokenizer:
    """Turns a stream of tokens into a stream of text.

    Text is held back while its last character is incomplete, and while its end could be the
    beginning of a stop string. What has been returned is final.

    Args:
        tokenizer: Decodes token ids.
        stop: Strings that end the text; they are not part of it.
        context: Token ids that stand before the text, for tokenizers that write a word differently
            at the beginning of a text.

    Raises:
        PrivacyParameterError: If a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = check_stop(stop)
        self._ids = list(context)
        # Decoding from `begin` gives text of which the part up to `shown` is already returned.
        self._begin = 0
        self._shown = len(self._ids)
        self._held = ""
        self.is_stopped = False
        """Whether a stop string has come up."""

    def push(self, token: int) -> str:
        """Take a token and return the text that has become final, perhaps none."""
        self._ids.append(token)
        text = self._new_text()
        if not text or text.endswith(_UNFINISHED):
            return ""
        self._begin, self._shown = self._shown, len(self._ids)
        return self._release(text)

    def finish(self) -> str:
        """Return what is still held back; an incomplete character becomes U+FFFD."""
        text = self._release(self._new_text())
        self._shown = len(self._ids)
        rest, self._held = self._held, ""
        return text if self.is_stopped else text + rest

    def _new_text(self) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        return self._decode(self._ids[self._begin :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        with errors_as(ViewError, "The tokenizer cannot decode the model's answer ({error})."):
            return str(
                self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )

    def _release(self, text: str) -> str:
        """Return held and new text up to a stop string, or up to what could become one."""
        if self.is_stopped:
            return ""
        text = self._held + text
        hits = [place for place in map(text.find, self._stop) if place >= 0]
        if hits:
            self.is_stopped = True
            self._held = ""
            return text[: min(hits)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Return the token ids of a text, without special tokens.

    Raises:
        ViewError: If the tokenizer cannot read it. Neither the text nor its length is told, nor logged.
    """
    with errors_as(ViewError, "The tokenizer cannot read the prompt. Check the text for unusual characters."):
        # Not verbose: a tokenizer would log the length of a prompt that is too long, a private one's too.
        encoded = tokenizer(text, add_special_tokens=False, verbose=False)
        return tuple(int(i) for i in encoded["input_ids"])


def check_stop(stop: Sequence[str], name: str = "stop") -> tuple[str, ...]:
    """Return the stop strings, or raise if they are not a list of non-empty strings."""
    is_list = isinstance(stop, Sequence) and not isinstance(stop, str)
    if not is_list or not all(isinstance(text, str) and text for text in stop):
        raise PrivacyParameterError(f"Expected {name} to be a list of non-empty strings.")
    return tuple(stop)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of ``text`` that is a proper beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
