"""From messages, prompts and templates to the engine's: what is said, and which parts of it are private."""
