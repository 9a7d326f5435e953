"""Output in a given form: masks from a JSON schema or from tools, functions of public data alone.

Which tokens may follow depends on the schema and on the tokens generated so far, both public, so a
mask costs no privacy (docs/theory.md, section 2).
"""

import json
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpfusion_core.errors import BackendError, PrivacyParameterError, UnsupportedError, errors_as
from dpfusion_core.tokenization import Tokenizer
from dpfusion_core.tool_calling import CLOSE, OPEN, check_tools

# Without it a model may go on with white space for ever.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammars:
    """Makes the masks for one tokenizer, which is read once, when it is first needed.

    Args:
        tokenizer: The model's; a fast one.
        vocab_size: Number of columns of the logits.
        eos_token_ids: Tokens that end a response.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos = sorted(eos_token_ids)
        self._lock = threading.Lock()
        self._read: Any = None

    def json(self, schema: Mapping[str, Any]) -> "Constraint":
        """Return a constraint to JSON that obeys a schema, without white space between its parts.

        Raises:
            PrivacyParameterError: If the schema is malformed.
            UnsupportedError: If the grammar library is missing or cannot read the tokenizer or the schema.
        """
        if not isinstance(schema, Mapping):
            raise PrivacyParameterError("Expected json_schema to be a JSON schema, as a mapping.")
        return self._constraint(f"start: {_rule(schema)}")

    def call(
        self, tools: Sequence[Any], choice: str, otherwise: Mapping[str, Any] | None = None
    ) -> "Constraint":
        """Return a constraint to one call of a tool whose arguments obey its schema.

        Args:
            tools: The tools; see :func:`~dpfusion_core.tool_calling.check_tools`.
            choice: Name of a tool, or ``"any"``.
            otherwise: Schema of JSON that may stand in the place of the call.

        Raises:
            PrivacyParameterError: If there is no such tool, or a tool is malformed.
            UnsupportedError: If the grammar library is missing or cannot read the tokenizer or a schema.
        """
        schemas = check_tools(tools)
        if not schemas:
            raise PrivacyParameterError("A tool is to be called, but no tool is given.")
        if choice != "any":
            if choice not in schemas:
                raise PrivacyParameterError(f"tool_choice names {choice!r}, which is none of the tools.")
            schemas = {choice: schemas[choice]}
        before, after = (f"{OPEN}\n", f"\n{CLOSE}") if self._has_tags() else ("", "")
        call = f"{json.dumps(before)} call {json.dumps(after)}" if before else "call"
        rules = [
            f"start: {call}"
            if otherwise is None
            else f"start: {call} | otherwise\notherwise: {_rule(otherwise)}",
            "call: " + " | ".join(f"tool_{i}" for i in range(len(schemas))),
        ]
        for i, (name, schema) in enumerate(schemas.items()):
            head = f'{{"name": {json.dumps(name)}, "arguments": '
            rules.append(f'tool_{i}: {json.dumps(head)} args_{i} "}}"')
            rules.append(f"args_{i}: {_rule(schema)}")
        return self._constraint("\n".join(rules))

    def _has_tags(self) -> bool:
        """Whether the template uses the tags of tool calls and the tokenizer shows them as text."""
        if OPEN not in str(getattr(self._tokenizer, "chat_template", "")):
            return False
        ids = self._tokenizer(OPEN, add_special_tokens=False)["input_ids"]
        return OPEN in str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _constraint(self, lark: str) -> "Constraint":
        needed = "Output in a given form needs llguidance: pip install 'dpfusion[structured]'"
        with errors_as(UnsupportedError, needed, only=ImportError):
            from llguidance import LLMatcher
        with self._lock:
            if self._read is None:
                self._read = self._read_tokenizer()
        grammar = LLMatcher.grammar_from_lark(lark)
        problem = LLMatcher.validate_grammar(grammar, self._read)
        if problem and not problem.startswith("WARNING"):
            kind = UnsupportedError if "nimplemented" in problem else PrivacyParameterError
            reason = " ".join(problem.partition("\n   1 |")[0].split())  # without the grammar's text
            raise kind(f"The JSON schema cannot be used: {reason}")
        return Constraint(LLMatcher(self._read, grammar), self._vocab_size)

    def _read_tokenizer(self) -> Any:
        from llguidance.hf import from_tokenizer

        needed = "Output in a given form needs a fast tokenizer (PreTrainedTokenizerFast)."
        with errors_as(UnsupportedError, needed):
            return from_tokenizer(self._tokenizer, n_vocab=self._vocab_size, eos_token=self._eos)  # type: ignore[arg-type]


class Constraint:
    """A logits processor that bans every token that would leave a grammar. It serves one response.

    Args:
        matcher: An ``llguidance.LLMatcher``.
        vocab_size: Number of columns of the logits.
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._length: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, ``[1, vocab]``, with ``-inf`` for the tokens that the grammar excludes."""
        length = input_ids.shape[1]
        new = input_ids[0, length if self._length is None else self._length :].tolist()
        self._length = length
        if self._matcher.try_consume_tokens(new) != len(new) or self._matcher.is_error():
            raise BackendError("The grammar lost track of the output. Report the schema, please.")
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(bool)
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)


def _rule(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**_closed(schema), "x-guidance": _COMPACT})


def _closed(schema: Any) -> Any:
    """Exclude properties that a schema neither names nor speaks of: a model could add them for ever.

    Not below ``allOf``, whose parts each name only some of the properties.
    """
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, Mapping):  # names, not keywords
            found[key] = {name: _closed(each) for name, each in value.items()}
        else:
            found[key] = value if key in ("allOf", "enum", "const") else _closed(value)
    if isinstance(schema.get("properties"), Mapping) and "allOf" not in schema:
        found.setdefault("additionalProperties", False)
    return found
