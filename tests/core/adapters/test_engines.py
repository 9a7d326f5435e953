"""The engine behind a framework's model."""

from dpfusion_core.adapters import load_engine
from dpfusion_core.backends.shared import shared_backend


def test_a_named_model_is_loaded_once_for_all() -> None:
    one, two = load_engine("dpfusion-tiny"), load_engine("dpfusion-tiny", placeholder="...")
    assert one.backend is two.backend is shared_backend("dpfusion-tiny")
    assert one.placeholder is not two.placeholder


def test_models_that_are_loaded_otherwise_are_others() -> None:
    one, two = load_engine("dpfusion-tiny"), load_engine("dpfusion-tiny", dtype="float64")
    assert one.backend is not two.backend


def test_a_ready_model_is_taken_as_it_is() -> None:
    held = shared_backend("dpfusion-tiny")
    engine = load_engine(held._model, tokenizer=held.tokenizer)
    assert engine.backend._model is held._model  # type: ignore[attr-defined]
    assert engine.backend is not held
