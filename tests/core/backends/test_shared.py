"""Weights are loaded once for all who hold them."""

import gc
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import BackendError, TransformersBackend
from dpfusion_core.backends import shared_backend
from dpfusion_core.tiny import model_path


def test_threads_that_ask_alike_get_one_model_and_others_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = str(shutil.copytree(model_path(), tmp_path / "model"))  # held by nobody else in this process
    loads: list[Any] = []
    load = TransformersBackend.from_pretrained

    def counting(path: str, **options: Any) -> TransformersBackend:
        loads.append(options)
        return load(path, **options)

    monkeypatch.setattr(TransformersBackend, "from_pretrained", counting)
    found: list[TransformersBackend] = []
    threads = [threading.Thread(target=lambda: found.append(shared_backend(name))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(each) for each in found}) == 1
    assert shared_backend(name, dtype="bfloat16") is not found[0]
    found.clear()
    gc.collect()
    shared_backend(name)
    assert len(loads) == 3  # nobody held the first


def test_what_cannot_be_loaded_is_tried_again(tmp_path: Any) -> None:
    for _ in range(2):
        with pytest.raises(BackendError, match="cannot be loaded"):
            shared_backend(str(tmp_path / "none"))
