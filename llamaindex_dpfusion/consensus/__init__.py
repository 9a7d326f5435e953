"""What many documents say, over any LLM: who answers for each document, quietly, and what is made of it."""
