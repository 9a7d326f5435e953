"""Seals: how a text keeps the name of its privacy unit while LlamaIndex cuts and pastes strings."""
