"""What a record may state: fields, their nouns, and the clauses that state or ask them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tiny_recipe.values import ValueMaker

UNKNOWN = {
    "name": "a person who is not named", "birth": "a date that is not stated", "city": "a city that is not stated",
    "employer": "a company that is not stated", "amount": "an amount that is not stated",
    "id": "a number that is not stated", "date": "a date that is not stated",
    "diagnosis": "a condition that is not stated", "charge": "an offence that is not stated",
    "product": "a product that is not stated", "phone": "a number that is not stated",
    "email": "an address that is not stated", "address": "an address that is not stated",
    "job": "a job that is not stated", "drug": "a drug that is not stated", "word": "something that is not stated",
    "number": "a number that is not stated",
}  # fmt: skip
"""What an answer says in place of a redacted value, by kind."""


@dataclass(frozen=True)
class Clause:
    """A predicate that states a value, and the questions that ask for it.

    Attributes:
        says: Predicate with ``{v}``, such as ``lives in {v}``.
        asks: Direct question with ``{s}``, such as ``Where does {s} live?``.
        gap: Indirect question, such as ``where {s} lives``.
    """

    says: str
    asks: str
    gap: str


@dataclass(frozen=True)
class Field:
    """One kind of fact.

    Attributes:
        key: Unique key.
        kind: Kind of value.
        nouns: Nouns that name the value.
        clauses: Predicates about the subject of the record.
        mods: Phrases that can stand beside the subject, with ``{v}``.
        plain: Whole sentences with ``{v}``, and ``{s}`` at times.
    """

    key: str
    kind: str
    nouns: tuple[str, ...]
    clauses: tuple[Clause, ...] = ()
    mods: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    @property
    def unknown(self) -> str:
        """What to say where the value is redacted."""
        return UNKNOWN.get(self.kind, "something that is not stated")


def field_of(key: str, kind: str, nouns: str, clauses: str = "", mods: str = "", plain: str = "") -> Field:
    """Make a field from lists with semicolons and lines of clauses."""
    lines = [[x.strip() for x in line.split("|")] for line in clauses.strip().splitlines()]
    return Field(
        key, kind, tuple(nouns.split("; ")), tuple(Clause(a, b, c) for a, b, c in lines),
        tuple(x for x in mods.split("; ") if x), tuple(x for x in plain.split("; ") if x),
    )  # fmt: skip


NAME = field_of("name", "name", "name; full name", "", "", "")
"""The subject's own name; its sentences are in :mod:`tiny_recipe.records`."""

COMMON = (
    field_of("birth", "birth", "date of birth; birth date; birthday; birth year; year of birth", """
       was born in {v}|When was {s} born?|when {s} was born
       was born on {v}|On which date was {s} born?|on which date {s} was born
       has been alive since {v}|Since when has {s} been alive?|since when {s} has been alive
       came into the world in {v}|When did {s} come into the world?|when {s} came into the world""",
       "born in {v}; born on {v}; born {v}", "The birth of {s} was in {v}"),
    field_of("city", "city", "city; home city; home town; town; place of residence; residence; place", """
       lives in {v}|Where does {s} live?|where {s} lives
       lives in {v}|In which city does {s} live?|in which city {s} lives
       resides in {v}|Where does {s} reside?|where {s} resides
       is living in {v}|Where is {s} living?|where {s} is living
       comes from {v}|Where does {s} come from?|where {s} comes from
       is from {v}|Where is {s} from?|where {s} is from
       is based in {v}|Where is {s} based?|where {s} is based
       has a home in {v}|Where does {s} have a home?|where {s} has a home
       moved to {v}|Where did {s} move to?|where {s} moved to
       stays in {v}|Where does {s} stay?|where {s} stays
       rents a flat in {v}|Where does {s} rent a flat?|where {s} rents a flat""",
       "a resident of {v}; living in {v}; from {v}; of {v}; resident in {v}; who lives in {v}",
       "The home of {s} is in {v}; {v} is home to {s}; {s} and the family live in {v}"),
    field_of("employer", "employer", "employer; company; workplace; firm; current employer", """
       works for {v}|Who does {s} work for?|who {s} works for
       works at {v}|Where does {s} work?|where {s} works
       is employed by {v}|Who is {s} employed by?|who {s} is employed by
       has a job at {v}|Where does {s} have a job?|where {s} has a job
       is on the payroll of {v}|On whose payroll is {s}?|on whose payroll {s} is
       earns a living at {v}|Where does {s} earn a living?|where {s} earns a living
       is on the staff of {v}|On whose staff is {s}?|on whose staff {s} is
       joined {v}|Which company did {s} join?|which company {s} joined""",
       "employed by {v}; working for {v}; who works for {v}; on the staff of {v}",
       "{v} employs {s}; {v} is where {s} works; The company that employs {s} is {v}"),
    field_of("id", "id",
    "record number; file number; reference; reference number; case number; ID; number; account number; "
       "identifier; file reference", """
       has the number {v}|Which number does {s} have?|which number {s} has
       is filed under {v}|Under which number is {s} filed?|under which number {s} is filed
       is listed under {v}|Under which number is {s} listed?|under which number {s} is listed
       was given the reference {v}|Which reference was {s} given?|which reference {s} was given""",
       "filed under {v}; listed as {v}; number {v}; reference {v}",
       "The file has the number {v}; The record is kept under {v}; Please quote {v} in letters; The case runs as {v}"),
    field_of("phone", "phone", "phone number; telephone number; phone; mobile number; telephone; contact number", """
       can be called at {v}|At which number can {s} be called?|at which number {s} can be called
       can be reached at {v}|How can {s} be reached?|how {s} can be reached
       has the phone number {v}|What phone number does {s} have?|what phone number {s} has
       answers the phone at {v}|At which number does {s} answer the phone?|at which number {s} answers the phone""",
       "reachable at {v}; phone {v}", "Call {s} at {v}; Calls go to {v}"),
    field_of("email", "email", "email address; email; e-mail; mail address; contact email", """
       can be emailed at {v}|At which address can {s} be emailed?|at which address {s} can be emailed
       uses the email {v}|What email does {s} use?|what email {s} uses
       reads mail at {v}|Where does {s} read mail?|where {s} reads mail""",
       "email {v}; writing from {v}", "Letters go to {v}; Write to {s} at {v}"),
    field_of("address", "address", "address; street address; home address; postal address; mailing address", """
       lives at {v}|At which address does {s} live?|at which address {s} lives
       receives mail at {v}|At which address does {s} receive mail?|at which address {s} receives mail
       owns a house at {v}|Where does {s} own a house?|where {s} owns a house""",
       "living at {v}; of {v}", "The house is at {v}; The home of {s} is at {v}"),
    field_of("job", "job", "occupation; job; profession; job title; position", """
       works as {a}{v}|What does {s} work as?|what {s} works as
       is {a}{v} by profession|What is {s} by profession?|what {s} is by profession
       earns money as {a}{v}|What does {s} earn money as?|what {s} earns money as""",
       "{a}{v} by trade; employed as {a}{v}", "{s} holds the position of {v}"),
    field_of("spouse", "name", "spouse; partner; emergency contact; next of kin; contact person", """
       is married to {v}|Who is {s} married to?|who {s} is married to
       lives together with {v}|Who does {s} live together with?|who {s} lives together with
       named {v} as contact|Who did {s} name as contact?|who {s} named as contact""",
       "married to {v}", "In an emergency, {v} should be called"),
)  # fmt: skip

DOMAINS: dict[str, tuple[Field, ...]] = {
    "medical": (
        field_of("diagnosis", "diagnosis", "diagnosis; condition; illness; disease; medical problem; finding", """
           was diagnosed with {v}|What was {s} diagnosed with?|what {s} was diagnosed with
           suffers from {v}|What does {s} suffer from?|what {s} suffers from
           has {v}|What illness does {s} have?|what illness {s} has
           is being treated for {v}|What is {s} being treated for?|what {s} is being treated for
           was admitted with {v}|What was {s} admitted with?|what {s} was admitted with
           has a history of {v}|Of what does {s} have a history?|of what {s} has a history
           lives with {v}|Which illness does {s} live with?|which illness {s} lives with
           came in because of {v}|Why did {s} come in?|why {s} came in""",
           "diagnosed with {v}; suffering from {v}; treated for {v}; who has {v}",
           "Doctors found {v}; The tests pointed to {v}; The doctor confirmed {v}; {v} was diagnosed"),
        field_of("drug", "drug", "medication; drug; medicine; prescription; current medication", """
           takes {v}|What does {s} take?|what {s} takes
           was prescribed {v}|What was {s} prescribed?|what {s} was prescribed
           was put on {v}|What was {s} put on?|what {s} was put on
           is treated with {v}|What is {s} treated with?|what {s} is treated with
           receives {v}|Which drug does {s} receive?|which drug {s} receives""",
           "taking {v}; on {v}", "The doctor prescribed {v}; Treatment with {v} was started"),
        field_of("doctor", "name", "doctor; physician; surgeon; attending physician; nurse; consultant", """
           was seen by {v}|Who saw {s}?|who saw {s}
           was examined by {v}|Who examined {s}?|who examined {s}
           is under the care of {v}|Under whose care is {s}?|under whose care {s} is""",
           "referred by {v}; seen by {v}", "{v} wrote the report; Dr. {v} examined {s}; The note was signed by {v}"),
        field_of("bill", "amount", "bill; cost of treatment; amount; hospital bill; co-payment; total", """
           was billed {v}|How much was {s} billed?|how much {s} was billed
           owes the clinic {v}|How much does {s} owe the clinic?|how much {s} owes the clinic
           paid {v}|How much did {s} pay?|how much {s} paid""",
           "billed {v}", "The treatment cost {v}; The bill came to {v}; A total of {v} is due"),
        field_of("admission", "date", "admission date; date of admission; date; date of the visit; visit date", """
           was admitted on {v}|When was {s} admitted?|when {s} was admitted
           came to the clinic on {v}|When did {s} come to the clinic?|when {s} came to the clinic
           was seen on {v}|When was {s} seen?|when {s} was seen""",
           "admitted on {v}; seen on {v}", "The visit took place on {v}; The record is dated {v}"),
        field_of("discharge", "date", "discharge date; date of discharge; next appointment; follow-up date", """
           went home on {v}|When did {s} go home?|when {s} went home
           was discharged on {v}|When was {s} discharged?|when {s} was discharged
           will return on {v}|When will {s} return?|when {s} will return""",
           "discharged on {v}", "The next appointment is on {v}"),
    ),
    "legal": (
        field_of("charge", "charge", "charge; offence; accusation; crime; alleged offence; allegation", """
           is charged with {v}|What is {s} charged with?|what {s} is charged with
           was charged with {v}|What was {s} charged with?|what {s} was charged with
           is accused of {v}|What is {s} accused of?|what {s} is accused of
           was arrested for {v}|What was {s} arrested for?|what {s} was arrested for
           faces trial for {v}|For what does {s} face trial?|for what {s} faces trial
           was convicted of {v}|Of what was {s} convicted?|of what {s} was convicted
           pleaded guilty to {v}|To what did {s} plead guilty?|to what {s} pleaded guilty
           stands accused of {v}|Of what does {s} stand accused?|of what {s} stands accused""",
           "accused of {v}; charged with {v}; wanted for {v}; tried for {v}",
           "The case is about {v}; The court is hearing a case of {v}; The indictment is for {v}"),
        field_of("lawyer", "name", "lawyer; attorney; counsel; judge; prosecutor; witness; defence lawyer", """
           is defended by {v}|Who defends {s}?|who defends {s}
           is represented by {v}|Who represents {s}?|who represents {s}
           hired {v}|Who did {s} hire?|who {s} hired""",
           "represented by {v}; defended by {v}", "{v} will speak for {s}; {v} represents {s} in court"),
        field_of("fine", "amount", "fine; bail; amount; damages; penalty; sum", """
           was fined {v}|How much was {s} fined?|how much {s} was fined
           has to pay {v}|How much does {s} have to pay?|how much {s} has to pay
           posted bail of {v}|How much bail did {s} post?|how much bail {s} posted""",
           "fined {v}", "Bail was set at {v}; The damage comes to {v}; The fine is {v}"),
        field_of("hearing", "date", "hearing date; date of the hearing; date; trial date; court date", """
           will appear in court on {v}|When will {s} appear in court?|when {s} will appear in court
           has a hearing on {v}|When does {s} have a hearing?|when {s} has a hearing
           goes on trial on {v}|When does {s} go on trial?|when {s} goes on trial""",
           "due in court on {v}", "The hearing is on {v}; The court meets on {v}; The record is dated {v}"),
        field_of("arrest", "date", "date of arrest; arrest date; date of the offence", """
           was arrested on {v}|When was {s} arrested?|when {s} was arrested
           was taken into custody on {v}|When was {s} taken into custody?|when {s} was taken into custody
           was caught on {v}|When was {s} caught?|when {s} was caught""",
           "arrested on {v}", "The arrest was made on {v}; It happened on {v}"),
    ),
    "finance": (
        field_of("product", "product", "product; contract; financial product; investment; holding", """
           holds {a}{v}|What product does {s} hold?|what product {s} holds
           bought {a}{v}|What did {s} buy?|what {s} bought
           signed up for {a}{v}|What did {s} sign up for?|what {s} signed up for
           opened {a}{v}|What did {s} open?|what {s} opened
           asked for {a}{v}|What did {s} ask for?|what {s} asked for
           has {a}{v}|Which product does {s} have?|which product {s} has
           cancelled {a}{v}|What did {s} cancel?|what {s} cancelled""",
           "holder of {a}{v}; who holds {a}{v}", "The contract is for {a}{v}; The advisor recommended {a}{v}"),
        field_of("loan", "amount", "amount; balance; loan amount; debt; outstanding amount; sum; total", """
           owes {v}|How much does {s} owe?|how much {s} owes
           invested {v}|How much did {s} invest?|how much {s} invested
           borrowed {v}|How much did {s} borrow?|how much {s} borrowed
           transferred {v}|How much did {s} transfer?|how much {s} transferred
           has saved {v}|How much has {s} saved?|how much {s} has saved""",
           "with a balance of {v}; owing {v}", "The balance stands at {v}; A total of {v} is due; The loan is for {v}"),
        field_of("instalment", "amount", "monthly payment; instalment; fee; monthly rate; deposit", """
           pays {v} a month|How much does {s} pay a month?|how much {s} pays a month
           was charged a fee of {v}|What fee was {s} charged?|what fee {s} was charged
           put down {v}|How much did {s} put down?|how much {s} put down""",
           "paying {v} a month", "The monthly payment is {v}; A fee of {v} applies"),
        field_of("contract", "date", "contract date; date; date of the contract; opening date; start date", """
           signed the contract on {v}|When did {s} sign the contract?|when {s} signed the contract
           opened the account on {v}|When did {s} open the account?|when {s} opened the account
           has been a client since {v}|Since when has {s} been a client?|since when {s} has been a client""",
           "a client since {v}", "The contract is dated {v}; The account was opened on {v}"),
        field_of("maturity", "date", "due date; end date; maturity date; payment date", """
           must pay by {v}|By when must {s} pay?|by when {s} must pay
           made the last payment on {v}|When did {s} make the last payment?|when {s} made the last payment""",
           "", "The payment is due on {v}; The contract ends on {v}; The next payment falls on {v}"),
        field_of("advisor", "name", "advisor; account manager; banker; broker; guarantor", """
           is advised by {v}|Who advises {s}?|who advises {s}
           met with {v}|Who did {s} meet with?|who {s} met with
           is looked after by {v}|Who looks after {s}?|who looks after {s}""",
           "advised by {v}", "{v} handles the account; The file is handled by {v}"),
    ),
    "hr": (
        field_of("salary", "amount", "salary; annual salary; pay; amount; bonus; yearly pay", """
           earns {v}|How much does {s} earn?|how much {s} earns
           is paid {v} a year|How much is {s} paid a year?|how much {s} is paid a year
           received {v}|How much did {s} receive?|how much {s} received
           asked for {v}|How much did {s} ask for?|how much {s} asked for""",
           "earning {v}; paid {v}", "The salary was set at {v}; The offer was {v}"),
        field_of("hired", "date", "start date; hire date; date of hire; date; first day", """
           was hired on {v}|When was {s} hired?|when {s} was hired
           started on {v}|When did {s} start?|when {s} started
           joined the team on {v}|When did {s} join the team?|when {s} joined the team""",
           "hired on {v}", "The first day was {v}; The contract started on {v}"),
        field_of("review", "date", "review date; end date; leave date; date of the interview", """
           had a review on {v}|When did {s} have a review?|when {s} had a review
           goes on leave on {v}|When does {s} go on leave?|when {s} goes on leave
           will leave on {v}|When will {s} leave?|when {s} will leave""",
           "", "The interview was on {v}; The next review is on {v}"),
        field_of("manager", "name", "manager; supervisor; team lead; boss; recruiter; mentor", """
           reports to {v}|Who does {s} report to?|who {s} reports to
           is supervised by {v}|Who supervises {s}?|who supervises {s}
           was interviewed by {v}|Who interviewed {s}?|who interviewed {s}""",
           "reporting to {v}; supervised by {v}", "{v} leads the team; {v} wrote the review of {s}"),
        field_of("sick", "diagnosis", "reason for sick leave; illness; condition; medical reason", """
           is on sick leave for {v}|Why is {s} on sick leave?|why {s} is on sick leave
           reported {v}|What did {s} report?|what {s} reported""",
           "on leave for {v}", "The doctor's note mentions {v}"),
    ),
}  # fmt: skip

ROLES = {
    "medical": ("patient", "patient", "woman", "man", "person", "outpatient"),
    "legal": ("defendant", "accused", "suspect", "client", "man", "woman", "person"),
    "finance": ("client", "customer", "account holder", "borrower", "investor", "person"),
    "hr": ("employee", "applicant", "worker", "candidate", "colleague", "person"),
}

_HEADS = {
    "id": "number code reference key ID badge licence permit ticket passport plate barcode",
    "amount": "fee cost price budget rent bonus premium deposit refund tax discount allowance payment loan debt",
    "date": "date deadline appointment visit meeting inspection delivery renewal exam test",
    "name": "contact doctor manager assistant agent owner guardian referee neighbour sister brother tutor driver",
    "word": "password model brand hobby language colour pet team band project nickname course street dish sport",
    "number": "count level score weight height age rate size total share distance grade limit duration dose",
    "city": "branch office birthplace destination region venue hospital court village district school",
    "employer": "insurer bank supplier landlord agency previous sponsor partner vendor carrier union",
}  # fmt: skip
_QUALITIES = (
    "locker room parking policy old new second first main last next backup private public annual weekly office travel "
    "medical insurance school library vehicle tax member order customer internal external initial final previous "
    "current favourite preferred local foreign temporary permanent special basic extra total monthly summer winter"
).split()


def invented_field(rng: random.Random, maker: ValueMaker) -> Field:
    """Make a field with a noun put together at random.

    Args:
        rng: Random source.
        maker: Source of invented words.

    Returns:
        A field that only nouns state and ask.
    """
    kind = rng.choice(tuple(_HEADS))
    head, u = rng.choice(_HEADS[kind].split()), rng.random()
    noun = head
    if u < 0.8:
        noun = f"{rng.choice(_QUALITIES) if u < 0.65 else maker.syllables()} {head}"
    return Field(f"other:{noun}", kind, (noun,))
