"""``tool_choice="choose"`` in both frameworks: a tool, or none, is a choice of its own."""

from typing import Any

from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage

from dpfusion_core import FusionEngine, ScriptedBackend
from langchain_dpfusion import ChatDPFusion
from llamaindex_dpfusion import DPFusionLLM

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "Tells the time.",
            "parameters": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}},
        },
    }
]
MARK = {"is_private": True, "unit": "ann"}


def engine() -> FusionEngine:
    def answer(prompt: str) -> str:
        asked = prompt.rpartition("user\n")[2]
        return ("now" if "Ann" in prompt else "answer") if "next step?" in asked else "CET"

    return FusionEngine(ScriptedBackend.saying(answer, certainty=80.0))


def test_langchain() -> None:
    llm = ChatDPFusion(engine=engine(), epsilon=40.0, max_tokens=20).bind_tools(TOOLS, tool_choice="choose")
    messages = [HumanMessage("Ann asks how late it is.", additional_kwargs=MARK), HumanMessage("What now?")]
    answer = llm.invoke(messages)
    [call] = answer.tool_calls
    assert (call["name"], call["args"]) == ("now", {"zone": "CET"})
    assert answer.response_metadata["dp_fusion"]["epsilon"] == 40.0


def test_llamaindex() -> None:
    llm = DPFusionLLM(engine=engine(), epsilon=40.0, max_tokens=20)
    messages = [
        ChatMessage("Ann asks how late it is.", additional_kwargs=MARK),
        ChatMessage("What now?"),
    ]
    response = llm.chat(messages, tools=TOOLS, tool_choice="choose")
    [call] = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("now", {"zone": "CET"})
    assert response.raw is not None
    assert response.raw["dp_fusion"]["epsilon"] == 40.0
