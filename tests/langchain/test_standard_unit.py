"""LangChain's own unit suite for chat models."""

from typing import Any

from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_dpfusion import ChatDPFusion


class TestChatDPFusionUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatDPFusion]:
        return ChatDPFusion

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "dpfusion-tiny"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        key = "0123456789abcdef0123456789abcdef"
        return {"DPFUSION_CACHE_KEY": key}, {"model": "dpfusion-tiny"}, {"cache_key": key}
