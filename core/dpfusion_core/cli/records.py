"""The records of the demonstration: 32 invented patients."""

from dataclasses import dataclass

WARDS = ("cardiology", "neurology", "oncology", "surgery", "urology")
"""The answers to the closed question."""

SHARED = "nausea"
"""The side effect that most patients have."""

CITY = "Trondheim"
"""The city whose patients are counted."""

_NAMES = (
    "Ingrid Solheim", "Jonas Berg", "Karin Dahl", "Lars Nygaard", "Marit Hauge", "Nils Moen",
    "Oda Lien", "Per Strand", "Ragnhild Vik", "Sverre Bakke", "Tone Myhre", "Ulrik Sand",
    "Vera Lund", "Wenche Holm", "Yngve Foss", "Astrid Ruud", "Bjarne Eide", "Camilla Aas",
    "Dag Brekke", "Eva Sunde", "Frode Lie", "Greta Krogh", "Harald Tveit", "Ida Ronning",
    "Jorunn Falk", "Kjell Aune", "Live Brandt", "Magnus Holt", "Nora Kvam", "Olav Skaar",
    "Petra Winge", "Rolf Juul",
)  # fmt: skip
_EFFECTS = (SHARED, "dizziness", SHARED, SHARED, "dizziness", SHARED, SHARED)
_RARE = {3: "hair loss", 9: "a rash", 14: "headache", 20: "back pain", 27: "fever"}
"""What one patient alone has, by the patient's place."""

_DIAGNOSES = (
    "Marfan syndrome",
    "asthma",
    "migraine",
    "pneumonia",
    "arthritis",
    "epilepsy",
    "chronic bronchitis",
)
_OTHER_CITIES = ("Bergen", "Oslo", "Stavanger", "Drammen", "Molde")


@dataclass(frozen=True)
class Patient:
    """One record.

    Attributes:
        name: Invented.
        ward: One of :data:`WARDS`.
        effect: The side effect.
        city: Where the patient lives.
        diagnosis: In the letter alone.
        born: Year of birth, in the letter alone.
    """

    name: str
    ward: str
    effect: str
    city: str
    diagnosis: str
    born: int

    @property
    def values(self) -> tuple[str, ...]:
        """What a redaction takes out."""
        return self.name, self.ward, self.effect, self.city, self.diagnosis, str(self.born)

    @property
    def text(self) -> str:
        """The record."""
        return f"{self.name} lives in {self.city}. The patient is on the {self.ward} ward and reported {self.effect}."

    @property
    def letter(self) -> str:
        """Another text about the patient, which is paraphrased."""
        told = f"was diagnosed with {self.diagnosis} and was born in {self.born}"
        return f"{self.name} lives in {self.city}. The patient {told}."


def patients() -> list[Patient]:
    """Return the patients, always the same."""
    found = []
    for number, name in enumerate(_NAMES):
        ward = WARDS[(number * 7 + number // 5) % len(WARDS)]
        effect = _RARE.get(number, _EFFECTS[number % len(_EFFECTS)])
        city = CITY if number % 3 == 0 else _OTHER_CITIES[number % len(_OTHER_CITIES)]
        diagnosis, born = _DIAGNOSES[number % len(_DIAGNOSES)], 1950 + 11 * number % 50
        found.append(Patient(name, ward, effect, city, diagnosis, born))
    return found
