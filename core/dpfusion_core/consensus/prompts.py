"""What models are told for a consensus. Public texts, here alone, so that who changes one sees all.

Each stands behind the question of a conversation, or before it. Answers are read by ``consensus/items.py``.
"""

FEW_WORDS = "In a few words, no sentence."
"""Behind the question that each document answers, where it may name one item."""

POINTS = "In a few words, no sentence. At most {most} points, one per line."
"""Behind the question, where it may name several."""

POINTS_AS_JSON = "Answer with a JSON list of at most {most} short points."
"""Behind the question, where a grammar holds the answer."""

YES_OR_NO = "Answer yes or no."
"""Behind a question that is counted."""

IS_SAID = 'Is "{item}" a right answer to the question: {question}'
"""Asked about each released item in the second round."""

NUMBER = "Answer with the number only."
"""Behind a question that is measured."""

WHAT_MANY_SAY = "What many documents say:\n{items}\n\n{question}"
"""Before the question of the answer that is written from the released items."""

ITEM = "- {item} (about {count} documents)"
"""One line of them."""
