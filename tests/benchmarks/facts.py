"""How many facts of a document survive at equal epsilon: facts first, token by token, and redaction.

Each held-out record has up to three private values, each with four others of its kind that it could have been. A
fact is kept if its value stands in the text that is written.
"""

import random

from rich.console import Console
from rich.table import Table

from dpfusion_core import FusionEngine, PhraseTagger
from dpfusion_core.documents import Privatizer
from tiny_recipe.held_out import Record, held_out_records

FIELDS, CHOICES = 3, 5
EPSILONS = (2.0, 4.0, 8.0)
SEED = 20_000


def facts_of_documents(console: Console, records: int = 40, epsilons: tuple[float, ...] = EPSILONS) -> None:
    """Print the share of facts kept by each way, with a 95 % interval."""
    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    held_out = held_out_records(records, SEED)
    others = held_out_records(200, SEED + 1)
    table = Table(
        "epsilon", "redaction", "token by token", "facts first", title=f"Facts kept, {records} records"
    )
    for epsilon in epsilons:
        rng = random.Random(SEED)
        kept: dict[str, list[bool]] = {"redaction": [], "token by token": [], "facts first": []}
        for record in held_out:
            facts = dict(list(record.fields.items())[:FIELDS])
            tagger = PhraseTagger(sorted(set(record.fields.values())))
            ways = {
                "redaction": Privatizer("paraphrase", tagger=tagger, engine=engine),
                "token by token": Privatizer("dp", tagger=tagger, engine=engine, epsilon=epsilon),
                "facts first": Privatizer(
                    "dp", tagger=tagger, engine=engine, epsilon=epsilon, schema=_schema(facts, others, rng)
                ),
            }
            for way, privatizer in ways.items():
                [text], _ = privatizer([record.text])
                kept[way] += [value in text for value in facts.values()]
        table.add_row(f"{epsilon:g}", *(_interval(each) for each in kept.values()))
    console.print(table)


def _schema(facts: dict[str, str], others: list[Record], rng: random.Random) -> dict[str, object]:
    """Return a schema that asks for the facts among values of the same kind."""
    properties = {}
    for name, value in facts.items():
        alike = {each.fields[name] for each in others if name in each.fields} - {value}
        every = {each.answer for each in others} - {value}
        some = rng.sample(sorted(alike if len(alike) >= CHOICES - 1 else every), CHOICES - 1)
        choices = [value, *some]
        rng.shuffle(choices)
        properties[name] = {"enum": choices}
    return {"properties": properties}


def _interval(kept: list[bool]) -> str:
    share = sum(kept) / len(kept)
    return f"{share:.2f} ± {1.96 * (share * (1 - share) / len(kept)) ** 0.5:.2f}"


if __name__ == "__main__":
    facts_of_documents(Console())
