"""The rule of a call: what text is of which nobody has said anything, and what a ledger wants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dpfusion_core.adapters import Said, Unmarked, decide, warn_unstable
from dpfusion_core.errors import RefusedError
from dpfusion_core.messages import DEFAULT_UNIT, Segment
from llamaindex_dpfusion.documents.units import STABLE_MEND
from llamaindex_dpfusion.prompts.components import Role
from llamaindex_dpfusion.prompts.net import remember, seen_of_units
from llamaindex_dpfusion.seals.parts import Piece

_MENDS = (
    "Give retrieved nodes to DPFusionNodePostprocessor, fill documents into a prompt template as arguments, or "
    'flag a message: ChatMessage(..., additional_kwargs={"is_private": True, "unit": "record-17"}).'
)


@dataclass(frozen=True)
class Rule:
    """What holds for one call.

    Attributes:
        unmarked: What text is that carries no mark.
        has_ledger: Whether the call is charged to accounts that outlive it.
        unit: The unit of private text that names none.
    """

    unmarked: Unmarked = "public"
    has_ledger: bool = False
    unit: str = DEFAULT_UNIT


@dataclass(frozen=True)
class Written:
    """A piece of a call's text and what was said of it; or the arguments of the tools that a message calls."""

    piece: Piece
    said: Said
    is_nameless: bool
    is_calls: bool = False

    @classmethod
    def of(
        cls, piece: Piece, role: Role, message: int, *, is_marked: bool = False, is_own: bool = False
    ) -> "Written":
        """Put together what is known of a piece.

        Args:
            piece: The piece.
            role: Whose it is; a tool's also if a component has written it into another's message.
            message: The number of its message, from 1.
            is_marked: Whether its message is flagged as private.
            is_own: Whether its message is an answer of ours under a guarantee.
        """
        text = piece.text
        if piece.unit is None:
            said = Said(text, role, None if piece.tag in ("open", "template") else False, is_own, message)
        elif is_marked or role == "tool":
            said = Said(text, role, True if is_marked else None, message=message)
        else:
            # Arguments are private for safety, and hold the questions of helper prompts too: the net does
            # not remember them. What was sealed as a document it has remembered already.
            said = Said("", role, True, message=message)
        is_nameless = piece.unit == DEFAULT_UNIT and not is_marked
        return cls(piece, replace(said, is_stable=piece.tag != "unstable"), is_nameless)


def segments_of(written: Sequence[Written], rule: Rule) -> list[Segment]:
    """Return the engine's segments of a call, or refuse it before anything is computed.

    Raises:
        RefusedError: See :func:`dpfusion_core.adapters.decide`; or if there is a ledger and text was cut out
            of a sealed document in such a way that nobody can say which account it belongs to.
    """
    if rule.unmarked in ("strict", "private"):
        # Of the text of templates, whoever has written the template has said that it is public.
        of_templates = [w.said for w in written if w.piece.tag == "template"]
        is_any_private = any(
            w.piece.unit is not None or w.said.is_open for w in written if w.piece.tag != "template"
        )
        decide(of_templates, "public" if is_any_private else "error", mends=_MENDS)
        written = [
            replace(w, said=replace(w.said, mark=False)) if w.piece.tag == "template" else w for w in written
        ]
    hidden = decide(
        [w.said for w in written],
        rule.unmarked,
        mends=_MENDS,
        has_ledger=rule.has_ledger,
        stable_mend=STABLE_MEND,
    )
    if rule.has_ledger:
        _refuse_cut(written)
    elif any(w.piece.tag == "unstable" for w in written):
        warn_unstable(STABLE_MEND)
    segments = []
    for found in written:
        if found.said.mark and found.piece.unit not in (None, DEFAULT_UNIT):
            remember(found.said.text, found.piece.unit)
    for found, is_private in zip(written, hidden, strict=True):
        unit = found.piece.unit or DEFAULT_UNIT
        name = rule.unit if unit == DEFAULT_UNIT else unit
        segments.append(Segment(found.piece.text, is_private, name if is_private else None))
    return segments


def _refuse_cut(written: Sequence[Written]) -> None:
    for found in written:
        is_cut = found.piece.tag == "cut" or (found.is_nameless and seen_of_units.holds(found.piece.text))
        if is_cut:
            raise RefusedError(
                "Text of a document was cut out between its marks or came back without them, so nobody can say "
                "which account in the ledger it belongs to. Pack documents with Settings.prompt_helper = "
                "DPFusionPromptHelper.from_llm(llm), or answer with "
                "response_synthesizer=DPFusionSynthesizer(...), which seals what an engine has cut."
            )
