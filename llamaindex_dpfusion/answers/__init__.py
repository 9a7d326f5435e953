"""From a method that LlamaIndex calls to the engine's call, and back: responses, streams, objects, events."""
