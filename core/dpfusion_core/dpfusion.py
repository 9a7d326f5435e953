"""``DPFusion`` and ``generate_dp_text``: the class and the function of the published library."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from dpfusion_core.backends import TransformersBackend
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import TaggerError, UnsupportedError, ViewError
from dpfusion_core.generation import GenerationResult
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import DEFAULT_UNIT, Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.tagging import Tagger
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import Views, arrange, render, views_of_contexts


class DPFusionResult(Mapping[str, Any]):
    """A response as a mapping, with the published library's keys and more.

    Keys: ``text`` (without the prompt), ``token_ids``, ``guarantee``
    (:class:`~dpfusion_core.PrivacyGuarantee`), and ``lambdas`` and ``divergences``: by unit, one
    number per token, the first included. The last two are functions of private data, for the data
    curator only; ``repr`` does not show them.
    """

    def __init__(self, result: GenerationResult) -> None:
        report = result.report
        self.guarantee: PrivacyGuarantee = result.guarantee
        self._items: dict[str, Any] = {
            "text": result.text,
            "lambdas": report.lambdas if report else {},
            "divergences": report.divergences if report else {},
            "token_ids": list(result.token_ids),
            "guarantee": result.guarantee,
        }

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"DPFusionResult(text={self['text']!r}, guarantee={self.guarantee!r})"


class DPFusion:
    """Builds a conversation message by message and answers it with DP-Fusion.

    Args:
        model: A ready ``transformers`` model, or a name or path to load.
        tokenizer: The model's tokenizer; not needed with a name or path.
        max_tokens: Largest number of tokens of a response unless ``generate`` is told another.
        placeholder: What stands in the place of private text in the public view.
        tagger: Finds the private phrases of private messages, for :meth:`run_tagger`; a
            :class:`~dpfusion_core.tagging.Narrowing` also says how.
        ledger: Keeps what each privacy unit has lost over all responses.

    Raises:
        BackendError: If the model cannot be loaded or is not a causal language model.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger
        >>> dpf = DPFusion("dpfusion-tiny", tagger=PhraseTagger(["Oslo"]))
        >>> dpf.add_message("user", "The patient lives in Oslo.", is_private=True)
        >>> dpf.add_message("user", "Where does the patient live?")
        >>> dpf.run_tagger()
        >>> "Oslo" in dpf.private_context, "Oslo" in dpf.public_context
        (True, False)
        >>> output = dpf.generate(alpha=2.0, beta=0.01, max_new_tokens=10)
        >>> len(output["divergences"]["private"]) == len(output["token_ids"])
        True
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        max_tokens: int = 100,
        placeholder: str | Placeholder = "____",
        tagger: Tagger | Narrowing | None = None,
        ledger: PrivacyLedger | None = None,
    ) -> None:
        if isinstance(model, str):
            backend = TransformersBackend.from_pretrained(model)
        else:
            backend = TransformersBackend(model, tokenizer)
        self.engine = FusionEngine(backend, placeholder=placeholder, ledger=ledger)
        self.max_tokens = max_tokens
        self.tagger = tagger
        self._messages: list[Message] = []

    def __repr__(self) -> str:
        return f"DPFusion({self.engine.backend.fingerprint}, {len(self._messages)} messages)"

    def add_message(self, role: str, content: str, is_private: bool = False, unit: str | None = None) -> None:
        """Append a message to the conversation.

        Args:
            role: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``. A last assistant message
                is continued.
            content: The text.
            is_private: Whether the text is private.
            unit: Privacy unit of a private message; unnamed ones share one unit.

        Raises:
            ViewError: If the message is malformed; the conversation is then as before.
        """
        self._messages.append(Message(role, content, is_private, unit))

    def clear_messages(self) -> None:
        """Forget the conversation."""
        self._messages.clear()

    def run_tagger(self) -> None:
        """Narrow what is private from whole messages to the phrases that the tagger finds in them.

        A private message in which nothing is found stays private as a whole.

        Raises:
            TaggerError: If there is no tagger, or it fails; the conversation is then as before.
            ViewError: If there is no message.
        """
        if self.tagger is None:
            raise TaggerError("There is no tagger. Pass one: DPFusion(..., tagger=PhraseTagger([...])).")
        if not self._messages:
            raise ViewError("The conversation is empty. Add messages before running the tagger.")
        narrowing = self.tagger
        if not isinstance(narrowing, Narrowing):
            narrowing = Narrowing(narrowing, on_error="raise")
        self._messages, _ = narrowing(self._messages, self.engine.ledger)

    @property
    def private_context(self) -> str:
        """The exact prompt that reveals the private text.

        Raises:
            UnsupportedError: If there are several units: each has a private prompt of its own.
        """
        units = {unit for message in self._messages for unit in message.units}
        if len(units) > 1:
            raise UnsupportedError("Several privacy units have several private prompts, not one.")
        return self._render(units)

    @property
    def public_context(self) -> str:
        """The exact prompt in which all private text is replaced by the placeholder."""
        return self._render(set())

    def generate(
        self,
        private_context: str | None = None,
        public_context: str | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        **options: Any,
    ) -> DPFusionResult:
        """Answer the conversation, or two ready prompts.

        Args:
            private_context: A ready prompt that reveals the private text; with ``public_context``.
            public_context: The same prompt with the private text replaced.
            alpha: Rényi order, above 1; 2.0 unless the options say ``epsilon``.
            beta: Each unit's contribution to a token diverges by at most ``alpha * beta`` nats; 0.01
                unless the options say ``epsilon``.
            temperature: Above 0 if anything is private.
            max_new_tokens: Largest number of tokens; ``max_tokens`` by default.
            **options: Further options of :class:`~dpfusion_core.options.Options`.

        Returns:
            The response; see :class:`DPFusionResult`.

        Raises:
            PrivacyParameterError: If a parameter is out of range.
            ViewError: If the messages cannot be made into prompts that fit the model.
            BackendError: If the model fails.
        """
        source: Sequence[Message] | Views = self._messages
        if private_context is not None or public_context is not None:
            if private_context is None or public_context is None:
                raise ViewError("private_context and public_context go together: give both.")
            source = views_of_contexts(private_context, public_context, self.engine.backend.tokenizer)
        return self._generate(source, alpha, beta, temperature, max_new_tokens, options)

    def generate_from_tokens(
        self,
        private_tokens: Tensor | Sequence[int],
        public_tokens: Tensor | Sequence[int],
        alpha: float | None = None,
        beta: float | None = None,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        **options: Any,
    ) -> DPFusionResult:
        """Answer two ready prompts of token ids, ``[length]`` or ``[1, length]``; see :meth:`generate`."""
        views = Views(_token_ids(public_tokens), {DEFAULT_UNIT: _token_ids(private_tokens)})
        return self._generate(views, alpha, beta, temperature, max_new_tokens, options)

    def _generate(
        self,
        source: Sequence[Message] | Views,
        alpha: float | None,
        beta: float | None,
        temperature: float,
        max_new_tokens: int | None,
        options: dict[str, Any],
    ) -> DPFusionResult:
        if options.get("epsilon") is None:  # the published library's defaults
            alpha = 2.0 if alpha is None and "order" not in options else alpha
            beta = 0.01 if beta is None else beta
        settings: GenerationOptions = {
            **options,  # type: ignore[typeddict-item]  # the engine checks names and values
            **({} if alpha is None else {"alpha": alpha}),
            "beta": beta,
            "temperature": temperature,
            "max_tokens": self.max_tokens if max_new_tokens is None else max_new_tokens,
            "curator": True,
        }
        return DPFusionResult(self.engine.generate(source, **settings))

    def _render(self, revealed: set[str]) -> str:
        tokenizer, placeholder = self.engine.backend.tokenizer, self.engine.placeholder
        return render(arrange(self._messages, tokenizer, placeholder), tokenizer, placeholder, revealed)


def generate_dp_text(
    model: Any,
    tokenizer: Any,
    private_context: str,
    public_context: str,
    alpha: float | None = None,
    beta: float | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 100,
    **options: Any,
) -> DPFusionResult:
    """Answer two ready prompts; for arguments, result and errors see :meth:`DPFusion.generate`.

    Example:
        >>> from dpfusion_core.tiny import model_path
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> model = AutoModelForCausalLM.from_pretrained(model_path())
        >>> tokenizer = AutoTokenizer.from_pretrained(model_path())
        >>> output = generate_dp_text(
        ...     model, tokenizer, "He lives in Oslo.", "He lives in ____.", max_new_tokens=5
        ... )
        >>> round(output["guarantee"].epsilon, 2)
        10.23
    """
    return DPFusion(model, tokenizer).generate(
        private_context, public_context, alpha, beta, temperature, max_new_tokens, **options
    )


def _token_ids(tokens: Tensor | Sequence[int]) -> tuple[int, ...]:
    if isinstance(tokens, Tensor):
        if tokens.dim() == 2 and tokens.shape[0] == 1:
            tokens = tokens[0]
        if tokens.dim() != 1 or tokens.dtype.is_floating_point:
            raise ViewError(f"Expected one row of token ids, got a tensor of shape {tuple(tokens.shape)}.")
        tokens = tokens.tolist()
    if not len(tokens):
        raise ViewError("A prompt is empty. Give at least one token.")
    return tuple(int(token) for token in tokens)
