"""LangChain's own integration suite, on the embedded model and on a scripted one.

The scripted model wants to say what a capable model would say; the decoding path, with its masks, is real.
"""

import json
import re
from typing import Any

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from dpfusion_core.tiny import model_path
from langchain_dpfusion import ChatDPFusion
from tests.langchain.scripted import scripted_engine

pytestmark = [
    pytest.mark.filterwarnings("ignore:Nothing in this conversation"),  # the suite has nothing private
    pytest.mark.filterwarnings("ignore:The method .* is in beta"),  # v3 events
]


def capable(prompt: str) -> str:
    """Answer as a capable model would: call a tool if there is one and it has not answered yet."""
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", prompt, re.DOTALL)
    question = next((text for role, text in reversed(turns) if role == "user"), "")
    shown = re.search(r"<tools>\n(.*?)\n</tools>", prompt, re.DOTALL)
    if shown and turns[-2][0] != "tool":
        function = json.loads(shown.group(1).splitlines()[0])["function"]
        arguments = _arguments(function["parameters"], question)
        call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
        return f"<tool_call>\n{call}\n</tool_call>"
    if "JSON" in question:
        return '{"setup": "Why?", "punchline": "Because."}'
    return "I am well, thank you."


def _arguments(schema: dict[str, Any], question: str) -> dict[str, Any]:
    quoted = re.findall(r"'(.*?)'", question)
    numbers = re.findall(r"\d+", question)
    values: dict[str, Any] = {
        "integer": int(numbers[0]) if numbers else 1,
        "string": quoted[0] if quoted else "pirate",
    }
    return {
        name: values.get(inner.get("type"), "text") for name, inner in schema.get("properties", {}).items()
    }


# The form of a call or of JSON is enforced; what stands in it is the model's, the same in every run because of the
# seed. A model that learns more turns these red: then the mark goes. The same tests pass on the scripted model.
VALUES = pytest.mark.xfail(reason="dpfusion-tiny does not find the values that are asked for")
OUTPUTS = pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)


class Standard(ChatModelIntegrationTests):
    __test__ = False

    @property
    def chat_model_class(self) -> type[ChatDPFusion]:
        return ChatDPFusion

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True


class TestScripted(Standard):
    __test__ = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Results of tools are private, so the suite's conversations with tools need a budget.
        return {
            "engine": scripted_engine(capable),
            "epsilon": 8.0,
            "unmarked": "public",
            "temperature": 1.0,
            "max_tokens": 200,
        }

    @property
    def supports_model_override(self) -> bool:
        return False  # a ready engine is one model


class TestEmbedded(Standard):
    __test__ = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Results of tools are private, so a temperature of 0 is not allowed; with a seed every run is the same.
        return {
            "model": "dpfusion-tiny",
            "epsilon": 8.0,
            "unmarked": "public",
            "top_k": 1,
            "seed": 0,
            "max_tokens": 100,
        }

    @property
    def model_override_value(self) -> str:
        return str(model_path())

    @VALUES
    @OUTPUTS
    def test_tool_calling(self, model: Any) -> None:
        super().test_tool_calling(model)

    @VALUES
    async def test_tool_calling_async(self, model: Any) -> None:
        await super().test_tool_calling_async(model)

    @VALUES
    def test_json_mode(self, model: Any) -> None:
        super().test_json_mode(model)

    @pytest.mark.xfail(reason="dpfusion-tiny was not trained to call tools of its own accord")
    @OUTPUTS
    def test_agent_loop(self, model: Any) -> None:
        super().test_agent_loop(model)

    @VALUES
    def test_unicode_tool_call_integration(self, model: Any) -> None:
        super().test_unicode_tool_call_integration(model)
