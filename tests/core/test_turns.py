"""Arrangements of a conversation: other turns, the same segments."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core import Message, Segment, ToolCall
from dpfusion_core.turns import arrangements

segments = st.builds(
    lambda text, unit: Segment(text, unit is not None, unit),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from([None, "u", "v"]),
)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant"]), st.lists(segments, min_size=1, max_size=3)
)


@given(st.lists(messages, min_size=1, max_size=6))
def test_no_text_is_lost_and_none_changes_its_unit(conversation: list[Message]) -> None:
    def told(arrangement: object) -> list[tuple[str, str]]:
        return sorted(
            (s.text, s.unit or "")
            for message in arrangement  # type: ignore[attr-defined]
            for s in message.segments
            if s.text != "\n\n"
        )

    as_it_is, joined, folded = arrangements(conversation)
    assert as_it_is is conversation
    assert told(joined) == told(folded) == told(conversation)
    for arrangement in (joined, folded):
        roles = [message.role for message in arrangement]
        assert all(a != b for a, b in itertools.pairwise(roles))
    assert "system" not in [message.role for message in folded]
    # An assistant's message at the end is one that is to be continued.
    assert (conversation[-1].role == "assistant") <= (folded[-1].role == "assistant")


def test_tools_and_their_calls_stay_apart() -> None:
    conversation = [
        Message("assistant", "", tool_calls=(ToolCall("a", {}, "1"), ToolCall("a", {}, "2"))),
        Message("tool", "x", tool_call_id="1"),
        Message("tool", "y", tool_call_id="2"),
        Message("assistant", "Well"),
    ]
    for arrangement in arrangements(conversation):
        assert list(arrangement) == conversation
