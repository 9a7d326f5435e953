"""Private values of every kind, by the thousand, in two disjoint pools.

Each distinctive word (a surname, the root of a place, a medical root) and each
number belongs by a checksum either to the training pool or to the held-out
pool, so that no held-out value ever occurs in training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

from tiny_recipe import wordlists as w


def is_held_out(word: str) -> bool:
    """Tell whether a word or number belongs to the held-out pool.

    Args:
        word: A distinctive word, or the digits of a number.

    Returns:
        True for about one word in five, by checksum.
    """
    return zlib.crc32(word.casefold().encode()) % 5 == 0


class ValueMaker:
    """Makes values of one pool from an explicit random source."""

    def __init__(self, rng: random.Random, held_out: bool = False, invented: float = 0.3) -> None:
        """Set up the maker.

        Args:
            rng: The random source; the only one that is used.
            held_out: Whether values come from the held-out pool.
            invented: Share of words made of random syllables.
        """
        self.rng = rng
        self.held_out = held_out
        self.invented = invented
        self._makers: dict[str, Callable[[], str]] = {
            "name": self.name, "birth": self.birth, "city": self.city, "employer": self.employer,
            "amount": self.amount, "id": self.identifier, "date": self.date, "diagnosis": self.diagnosis,
            "charge": self.charge, "product": self.product, "phone": self.phone, "email": self.email,
            "address": self.address, "job": self.job, "drug": self.drug, "word": self.thing, "number": self.count,
        }  # fmt: skip

    def make(self, kind: str) -> str:
        """Make a value.

        Args:
            kind: One of :data:`KINDS`, or of :data:`LABELS` and :data:`COUNTS`.

        Returns:
            A new value of that kind from this maker's pool.
        """
        if kind in w.LABELS:
            return (
                self.syllables()
                if self.rng.random() < self.invented / 2
                else self.rng.choice(self._labels(kind))
            )
        if kind in w.COUNTS:
            low, high, forms = w.COUNTS[kind]
            return self.rng.choice(forms).format(self._pool(lambda: str(self.rng.randint(low, high))))
        return self._makers[kind]()

    def _pool(self, make: Callable[[], str]) -> str:
        while True:
            word = make()
            if is_held_out(word) == self.held_out:
                return word

    def _from(self, words: Sequence[str]) -> str:
        return self._pool(lambda: self.rng.choice(words))

    def _labels(self, kind: str) -> Sequence[str]:
        """Every fifth label of a list is held out: a checksum might leave none of a short one."""
        return [x for i, x in enumerate(w.LABELS[kind]) if (i % 5 == 4) == self.held_out]

    def _letters(self, n: int) -> str:
        return "".join(self.rng.choice(w.LETTERS) for _ in range(n))

    def _digits(self, n: int) -> str:
        return self._pool(lambda: "".join(self.rng.choice("0123456789") for _ in range(n)))

    def syllables(self, n: int = 0) -> str:
        """Make a pronounceable word that means nothing."""
        r = self.rng

        def make() -> str:
            count = n or r.choice((1, 2, 2, 2, 3))
            word = r.choice(w.ONSETS)
            for i in range(count):
                word += r.choice(w.CONSONANTS) if i else ""
                word += r.choice(w.VOWELS) + (r.choice(w.CODAS) if i + 1 == count or r.random() < 0.2 else "")
            return word

        return self._pool(make)

    def _proper(self, known: Sequence[str], stems: Sequence[str], ends: Sequence[str]) -> str:
        u = self.rng.random()
        if u < self.invented:
            return self.syllables().capitalize()
        if u < self.invented + 0.35 * (1 - self.invented):
            return self._from(known)
        return self._pool(lambda: self.rng.choice(stems) + self.rng.choice(ends))

    def given(self) -> str:
        """Make a given name."""
        return self._proper(w.GIVEN_NAMES, w.GIVEN_STEMS, w.GIVEN_ENDS)

    def surname(self) -> str:
        """Make a surname."""
        base = self._proper(w.SURNAMES, w.SURNAME_STEMS, w.SURNAME_ENDS)
        u = self.rng.random()
        if u < 0.04:
            return base + "-" + self._proper(w.SURNAMES, w.SURNAME_STEMS, w.SURNAME_ENDS)
        if u < 0.07:
            return self.rng.choice(("O'", "Mc", "de ", "van ", "di ", "von ", "El ")) + base
        return base

    def name(self) -> str:
        """Make a full name."""
        u = self.rng.random()
        middle = self.rng.choice(w.LETTERS) + ". " if u < 0.08 else self.given() + " " if u < 0.12 else ""
        return f"{self.given()} {middle}{self.surname()}"

    def city(self) -> str:
        """Make the name of a place."""
        r, base = self.rng, self._proper(w.PLACES, w.PLACE_STEMS, w.PLACE_ENDS)
        u = r.random()
        if u < 0.1:
            return f"{r.choice(w.PLACE_HEADS)} {base}"
        if u < 0.17:
            return f"{base} {r.choice(w.PLACE_TAILS)}"
        return base

    def employer(self) -> str:
        """Make the name of an organisation."""
        r, base, u = self.rng, self.surname(), self.rng.random()
        if u < 0.15:
            return f"{base} and {self.surname()}"
        if u < 0.25:
            return f"{base} & {self.surname() if r.random() < 0.5 else 'Sons'}"
        if u < 0.35:
            return f"{self.city()} {r.choice(w.ORG_MIDDLES)} {r.choice(w.ORG_TAILS)}"
        if u < 0.45:
            return f"{base} {r.choice(w.ORG_MIDDLES)}"
        return base if u < 0.53 else f"{base} {r.choice(w.ORG_TAILS)}"

    def year(self) -> str:
        """Make a year of birth."""
        return str(self.rng.choice([y for y in range(1920, 2013) if is_held_out(str(y)) == self.held_out]))

    def birth(self) -> str:
        """Make a year or a date of birth."""
        return self.year() if self.rng.random() < 0.5 else self._date(1920, 2013, (5, 5, 4, 3, 2, 1, 0))

    def _date(self, low: int, high: int, weights: Sequence[int] = (5, 5, 4, 3, 2, 1, 1)) -> str:
        r = self.rng

        def make() -> str:
            d, m, y = r.randint(1, 28), r.randint(1, 12), r.randint(low, high)
            month = w.MONTHS[m - 1]
            forms = (f"{d} {month} {y}", f"{month} {d}, {y}", f"{y}-{m:02d}-{d:02d}", f"{m:02d}/{d:02d}/{y}",
                     f"{d:02d}.{m:02d}.{y}", f"{d} {month[:3]} {y}", f"{month} {d}")  # fmt: skip
            return r.choices(forms, weights)[0]

        return self._pool(make)

    def date(self) -> str:
        """Make a date."""
        return self._date(1990, 2027)

    def amount(self) -> str:
        """Make an amount of money."""
        r = self.rng

        def make() -> str:
            n = int(10 ** r.uniform(1.3, 6.6))
            if r.random() < 0.3:
                n = max(10, n - n % 10 ** r.randint(1, 3))
            text = f"{n:,}" if r.random() < 0.75 else str(n)
            return text + (f".{r.randint(0, 99):02d}" if r.random() < 0.15 else "")

        number = self._pool(make)
        forms = ("${}", "{} euros", "{} dollars", "EUR {}", "€{}", "£{}", "{} USD", "{} pounds", "CHF {}")
        return r.choices(forms, (8, 4, 4, 2, 2, 2, 1, 1, 1))[0].format(number)

    def identifier(self) -> str:
        """Make a record, case or account number."""
        r, u = self.rng, self.rng.random()
        if u < 0.35:
            return f"{self._letters(r.randint(1, 3))}-{self._digits(r.randint(3, 6))}"
        if u < 0.55:
            return self._digits(r.randint(4, 9))
        if u < 0.7:
            return f"{self._digits(3)}-{self._digits(2)}-{self._digits(4)}"
        if u < 0.85:
            return self._letters(r.randint(1, 2)) + self._digits(r.randint(3, 7))
        return f"{self._letters(2)}-{self.rng.randint(2000, 2027)}-{self._digits(r.randint(2, 4))}"

    def diagnosis(self) -> str:
        """Make a diagnosis."""
        r, u = self.rng, self.rng.random()
        if u < 0.22:
            return self._from(w.DISEASES)
        if u < 0.34:
            text = self._pool(lambda: f"{r.choice(w.ORGANS)} {r.choice(w.AILMENTS)}")
        elif u < 0.72 - 0.3 * self.invented:
            text = self._pool(lambda: r.choice(w.MEDICAL_ROOTS) + r.choice(w.MEDICAL_ENDS))
        elif u < 0.86:
            text = self.syllables() + r.choice(
                ("itis", "osis", " fever", " disease", "oma", "emia", " disorder")
            )
        else:
            return f"{self.surname()} {r.choice(('syndrome', 'disease', 'palsy', 'anemia'))}"
        if r.random() < 0.4:
            text = f"{r.choice(w.SEVERITY)} {text}"
        return text + (f" type {r.choice(('1', '2', '3', 'A', 'B', 'C'))}" if r.random() < 0.05 else "")

    def charge(self) -> str:
        """Make a criminal charge."""
        r, u = self.rng, self.rng.random()
        if u < 0.25:
            return self._from(w.CRIMES)
        if u < 0.4:
            return self._pool(lambda: f"{r.choice(w.CRIME_MODES)} {r.choice(w.CRIMES)}")
        if u < 0.75:
            return self._pool(lambda: f"{r.choice(w.CRIME_ACTS)} {r.choice(w.GOODS)}")
        if u < 0.9:
            return f"{r.choice(w.CRIME_ACTS)} {self.syllables()}"
        return f"{self.syllables()} {r.choice(('fraud', 'trafficking', 'smuggling', 'offences', 'theft'))}"

    def product(self) -> str:
        """Make a financial product."""
        r, u, kind = self.rng, self.rng.random(), self.rng.choice(w.PRODUCT_KINDS)
        if u < 0.25:
            return self._pool(lambda: f"{r.choice(w.PRODUCT_STYLES)} {r.choice(w.PRODUCT_KINDS)}")
        if u < 0.5:
            return f"{self.surname()} {kind}"
        if u < 0.75:
            return f"{self.syllables()} {kind}"
        return self._pool(
            lambda: f"{r.choice(w.GOODS)} {r.choice(w.PRODUCT_STYLES)} {r.choice(w.PRODUCT_KINDS)}"
        )

    def phone(self) -> str:
        """Make a telephone number."""
        d, forms = self._digits, ("{}-{}-{}", "({}) {}-{}", "+4{} {} {}", "0{} {} {}", "{}.{}.{}")
        return self.rng.choice(forms).format(d(3), d(3), d(4))

    def email(self) -> str:
        """Make an e-mail address."""
        first, last = self.syllables(1 + (self.rng.random() < 0.5)), self.surname().lower().replace(" ", "")
        join, end = (
            self.rng.choice((".", "_", "", "-")),
            self.rng.choice(("com", "org", "net", "de", "example")),
        )
        return f"{first}{join}{last}@{self.syllables()}.{end}".replace("'", "")

    def address(self) -> str:
        """Make a street address."""
        r = self.rng
        street = f"{self._proper(w.PLACES, w.PLACE_STEMS, w.PLACE_ENDS)} {r.choice(w.STREET_ENDS)}"
        return f"{r.randint(1, 999)} {street}" + (f", {self.city()}" if r.random() < 0.2 else "")

    def job(self) -> str:
        """Make an occupation."""
        r = self.rng
        if r.random() < 0.3:
            return self._from(w.JOBS)
        if r.random() < 0.3:
            return f"{self.syllables()} {r.choice(w.JOBS)}"
        return self._pool(lambda: f"{r.choice(w.JOB_STYLES)} {r.choice(w.JOBS)}")

    def drug(self) -> str:
        """Make a medication, with a dose at times."""
        r, word = self.rng, self._pool(lambda: self.rng.choice(w.ONSETS) + self.rng.choice(w.VOWELS) +
                                       self.rng.choice(w.CODAS) + self.rng.choice(w.DRUG_ENDS))  # fmt: skip
        word = word.capitalize() if r.random() < 0.4 else word
        return word + (
            f" {r.choice((5, 10, 20, 25, 40, 50, 75, 100, 250, 500))} mg" if r.random() < 0.35 else ""
        )

    def thing(self) -> str:
        """Make a value of no particular kind."""
        u = self.rng.random()
        if u < 0.3:
            return self.syllables()
        if u < 0.5:
            return self.syllables().capitalize()
        if u < 0.65:
            return f"{self.rng.choice(w.COLOURS)} {self.syllables()}"
        return self._from(w.GOODS) if u < 0.75 else f"{self.syllables()} {self.syllables()}"

    def count(self) -> str:
        """Make a plain number, percentage, time or measure."""
        r, n = self.rng, self._digits(self.rng.randint(1, 4))
        return r.choice(
            ("{}", "{}", "{}%", "{} days", "{} hours", "{} months", "{} kg", "{} cm", "level {}")
        ).format(n)


KINDS = ("name", "birth", "city", "employer", "amount", "id", "date", "diagnosis", "charge", "product", "phone",
         "email", "address", "job", "drug", "word", "number")  # fmt: skip
"""The kinds of values that :class:`ValueMaker` makes."""
