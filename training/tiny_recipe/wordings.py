"""More wordings for the fields of :mod:`tiny_recipe.fields`, nearer to how people write. Training alone uses them."""

from __future__ import annotations

import random
from dataclasses import replace

from tiny_recipe.fields import COMMON, DOMAINS, Field, field_of
from tiny_recipe.labels import CLOSED
from tiny_recipe.phrasing import lower_first

_MORE = (
    field_of("birth", "birth", "birth; born; DOB; birthdate", """
       celebrates a birthday on {v}|When does {s} celebrate a birthday?|when {s} celebrates a birthday
       saw the light of day in {v}|In what year was {s} born?|in what year {s} was born
       gave {v} as date of birth|What did {s} give as date of birth?|what {s} gave as date of birth
       has {v} in the passport as birthday|What is the birthday of {s}?|what the birthday of {s} is""",
       "(born {v}); * {v}; {v} by birth; (DOB {v})",
       "The passport says {v}; Born: {v}; The birth certificate is from {v}"),
    field_of("city", "city", "city of residence; hometown; location; present home; where from", """
       grew up in {v}|Where did {s} grow up?|where {s} grew up
       has lived in {v} for years|Where has {s} lived for years?|where {s} has lived for years
       recently moved to {v}|Where did {s} recently move?|where {s} recently moved
       settled in {v}|Where did {s} settle?|where {s} settled
       calls {v} home|What place does {s} call home?|what place {s} calls home
       travelled here from {v}|Where did {s} travel from?|where {s} travelled from
       drove in from {v}|What town did {s} come from?|what town {s} came from
       has a flat in {v}|Which town does {s} live in?|which town {s} lives in
       spends the week in {v}|What city does {s} live in?|what city {s} lives in""",
       "now living in {v}; originally from {v}; who grew up in {v}; ({v}); who moved to {v} last year",
       "Home is {v}; Home visits are to be made in {v}; The train from {v} was late; They bought a place in {v}"),
    field_of("employer", "employer", "current job; place of work; organisation; business", """
       has worked at {v} for years|Where has {s} worked for years?|where {s} has worked for years
       recently started at {v}|Where did {s} recently start?|where {s} recently started
       spent ten years with {v}|Who did {s} spend ten years with?|who {s} spent ten years with
       does shift work at {v}|Where does {s} do shift work?|where {s} does shift work
       runs a team at {v}|Where does {s} run a team?|where {s} runs a team
       draws a salary from {v}|Who pays {s}?|who pays {s}
       resigned from {v}|Which firm did {s} leave?|which firm {s} left
       was let go by {v}|Who let {s} go?|who let {s} go""",
       "an employee of {v}; who is with {v}; formerly of {v}; working at {v}",
       "The employer is {v}; The wages come from {v}; A reference came from {v}; {v} confirmed the employment"),
    field_of("id", "id", "file no.; case no.; reference no.; number of the file; policy number; claim number; code", """
       carries the number {v}|What number does {s} carry?|what number {s} carries
       is registered as {v}|How is {s} registered?|how {s} is registered
       quoted {v}|Which reference did {s} quote?|which reference {s} quoted""",
       "(no. {v}); (ref. {v}); (file {v}); ID {v}; no. {v}",
       "Ref. {v}; Our reference: {v}; File no. {v}; It was entered as {v}; The number on the envelope was {v}; "
       "Account {v} was used; Policy {v} applies; Ticket {v} was opened"),
    field_of("phone", "phone", "number to call; cell phone; cell; mobile; phone no.; callback number", """
       left {v} for a call back|Which number did {s} leave?|which number {s} left
       asked to be called on {v}|On what number should {s} be called?|on what number {s} should be called
       is best reached on {v}|What is the best number for {s}?|what the best number for {s} is""",
       "tel. {v}; (phone {v}); mobile {v}",
       "Tel.: {v}; For questions ring {v}; The number is {v}; Ring {v} after five"),
    field_of("email", "email", "mail; e-mail address; electronic address; online contact", """
       prefers mail to {v}|Where does {s} prefer mail?|where {s} prefers mail
       wrote from {v}|From what address did {s} write?|from what address {s} wrote
       wants the results sent to {v}|Where do the results for {s} go?|where the results for {s} go""",
       "({v}); e-mail {v}",
       "Mail: {v}; Please send everything to {v}; A copy went to {v}; Confirmation was sent to {v}"),
    field_of("address", "address", "house; street; home; residential address; delivery address", """
       moved into {v}|Where did {s} move in?|where {s} moved in
       rents {v}|What does {s} rent?|what {s} rents
       gave {v} as address|What address did {s} give?|what address {s} gave
       has parcels sent to {v}|Where does {s} have parcels sent?|where {s} has parcels sent""",
       "residing at {v}; who lives at {v}",
       "The flat at {v} is rented; Letters should go to {v}; The nurse calls at {v}"),
    field_of("job", "job", "work; line of work; trade; role; post; career", """
       is {a}{v}|What does {s} do for a living?|what {s} does for a living
       has a post as {a}{v}|What post does {s} have?|what post {s} has
       trained as {a}{v}|What did {s} train as?|what {s} trained as
       became {a}{v}|What did {s} become?|what {s} became
       makes a living as {a}{v}|How does {s} make a living?|how {s} makes a living""",
       "{a}{v}; {a}{v} for ten years; who works as {a}{v}", "By trade: {v}; The contract is for the post of {v}"),
    field_of("spouse", "name", "husband; wife; contact; relative; sister; brother; daughter; son; neighbour", """
       came with {v}|Who came with {s}?|who came with {s}
       wants {v} to be informed|Who should be informed about {s}?|who should be informed about {s}
       shares a flat with {v}|Who does {s} share a flat with?|who {s} shares a flat with
       is cared for by {v}|Who cares for {s}?|who cares for {s}""",
       "the partner of {v}", "{v} came along; Please inform {v}; {v} has power of attorney; {v} drove the car"),
    field_of("diagnosis", "diagnosis", "problem; cause; trouble; disorder; reason for the visit", """
       was found to have {v}|What was {s} found to have?|what {s} was found to have
       is recovering from {v}|What is {s} recovering from?|what {s} is recovering from
       has struggled with {v} for years|What has {s} struggled with for years?|what {s} has struggled with for years
       was sent to us with {v}|With what was {s} sent?|with what {s} was sent
       learned that it is {v}|What illness was found?|what illness was found
       underwent surgery for {v}|Why did {s} have surgery?|why {s} had surgery
       contracted {v}|What did {s} contract?|what {s} contracted
       has been living with {v}|What condition does {s} have?|what condition {s} has""",
       "known for {v}; with known {v}; with {v}; after a bout of {v}",
       "Scans showed {v}; Lab results were typical of {v}; The final diagnosis: {v}; It turned out to be {v}; "
       "We suspect {v}; Blood tests confirmed {v}; The MRI revealed {v}"),
    field_of("drug", "drug", "tablets; pills; treatment; therapy; remedy", """
       was started on {v}|What was {s} started on?|what {s} was started on
       has been taking {v} every morning|What has {s} been taking every morning?|what {s} has been taking every morning
       was sent home with {v}|What was {s} sent home with?|what {s} was sent home with
       is allergic to {v}|What is {s} allergic to?|what {s} is allergic to
       gets {v} twice a day|What medicine does {s} get?|what medicine {s} gets
       responded well to {v}|What did {s} respond well to?|what {s} responded well to""",
       "currently on {v}; treated with {v}", "Current medication: {v}; We switched to {v}; {v} was given at night; "
       "{v} was stopped; The pharmacy delivered {v}"),
    field_of("doctor", "name", "GP; family doctor; specialist; therapist; midwife; dentist", """
       was operated on by {v}|Who operated on {s}?|who operated on {s}
       sees {v} every month|Who does {s} see every month?|who {s} sees every month
       was referred by {v}|Who referred {s}?|who referred {s}
       is treated by {v}|Who treats {s}?|who treats {s}""",
       "treated by {v}; operated on by {v}",
       "{v} performed the operation; {v} signed the discharge letter; Signed, {v}; "
       "Dr. {v} is in charge"),
    field_of("bill", "amount", "invoice; charges; cost; price of the treatment; fee", """
       received an invoice for {v}|For how much did {s} get an invoice?|for how much {s} got an invoice
       was charged {v}|How much was {s} charged?|how much {s} was charged""",
       "", "The invoice is over {v}; Costs so far: {v}; The insurer paid {v}; {v} is still open"),
    field_of("admission", "date", "arrival; day of admission; day of the visit", """
       arrived on {v}|When did {s} arrive?|when {s} arrived
       was brought in on {v}|When was {s} brought in?|when {s} was brought in
       first came in on {v}|When did {s} first come in?|when {s} first came in""",
       "brought in on {v}", "Admitted: {v}; Seen {v}; It started on {v}"),
    field_of("discharge", "date", "check-up; next visit; release date; day of discharge", """
       could leave on {v}|When could {s} leave?|when {s} could leave
       has a check-up on {v}|When does {s} have a check-up?|when {s} has a check-up
       was released on {v}|When was {s} released?|when {s} was released""",
       "", "Discharge is planned for {v}; Surgery is set for {v}; The stitches come out on {v}"),
    field_of("charge", "charge", "crime committed; alleged crime; case; reason for the arrest; count", """
       was caught for {v}|What was {s} caught for?|what {s} was caught for
       was found guilty of {v}|What was {s} found guilty of?|what {s} was found guilty of
       is under investigation for {v}|What is {s} under investigation for?|what {s} is under investigation for
       was sentenced for {v}|What was {s} sentenced for?|what {s} was sentenced for
       confessed to {v}|What did {s} confess to?|what {s} confessed to
       was indicted for {v}|What was {s} indicted for?|what {s} was indicted for
       denies {v}|What does {s} deny?|what {s} denies""",
       "indicted for {v}; suspected of {v}; on trial for {v}", "Police suspect {v}; The verdict: guilty of {v}; "
       "The prosecution speaks of {v}; The trial concerns {v}"),
    field_of("lawyer", "name", "solicitor; defender; barrister; notary; legal counsel; legal representative", """
       appeared with {v}|Who did {s} appear with?|who {s} appeared with
       is counselled by {v}|Who counsels {s}?|who counsels {s}
       was sentenced by {v}|Who sentenced {s}?|who sentenced {s}
       was cross-examined by {v}|Who cross-examined {s}?|who cross-examined {s}""",
       "with counsel {v}", "{v} presides; {v} appeared for the defence; Judge {v} hears the case; {v} took the case"),
    field_of("fine", "amount", "fee; compensation; money; amount of the fine; settlement", """
       was ordered to pay {v}|How much was {s} ordered to pay?|how much {s} was ordered to pay
       settled for {v}|For how much did {s} settle?|for how much {s} settled
       stole goods worth {v}|What were the goods worth?|what the goods were worth""",
       "", "The settlement was {v}; Losses run to {v}; The court ordered {v} in damages"),
    field_of("hearing", "date", "session; day in court; next hearing; verdict date", """
       must appear on {v}|When must {s} appear?|when {s} must appear
       will be heard on {v}|When will {s} be heard?|when {s} will be heard""",
       "", "The trial opens on {v}; The next session is on {v}; The verdict is expected on {v}"),
    field_of("arrest", "date", "day of the arrest; time of the offence", """
       was detained on {v}|When was {s} detained?|when {s} was detained
       was picked up on {v}|When was {s} picked up?|when {s} was picked up""",
       "detained on {v}", "The incident was on {v}; Police came on {v}; Date of arrest: {v}"),
    field_of("product", "product", "item; plan; policy; kind of contract; account type", """
       took out {a}{v}|What did {s} take out?|what {s} took out
       applied for {a}{v}|What did {s} apply for?|what {s} applied for
       switched to {a}{v}|What did {s} switch to?|what {s} switched to
       put money into {a}{v}|What did {s} put money into?|what {s} put money into""",
       "owner of {a}{v}", "The new contract is {a}{v}; It concerns {a}{v}; The bank offered {a}{v}"),
    field_of("loan", "amount", "size of the loan; value; money owed; funds; savings; sum borrowed", """
       took out a loan of {v}|How large is the loan of {s}?|how large the loan of {s} is
       has a credit line of {v}|How large is the credit line of {s}?|how large the credit line of {s} is
       withdrew {v}|How much did {s} withdraw?|how much {s} withdrew
       still owes {v}|How much does {s} still owe?|how much {s} still owes
       put {v} aside|How much did {s} put aside?|how much {s} put aside""",
       "in debt for {v}",
       "The mortgage is for {v}; {v} was moved last week; The credit limit is {v}; {v} is outstanding"),
    field_of("instalment", "amount", "rate; premium; cost per month; rent", """
       pays back {v} each month|How much does {s} pay back each month?|how much {s} pays back each month
       pays a premium of {v}|What premium does {s} pay?|what premium {s} pays""",
       "", "Each month {v} is due; The rate is {v} per month; The premium amounts to {v}"),
    field_of("contract", "date", "signing date; day of signing; date opened", """
       became a client on {v}|When did {s} become a client?|when {s} became a client
       came to the branch on {v}|When did {s} come to the branch?|when {s} came to the branch""",
       "", "Signed on {v}; The policy began on {v}; The loan was paid out on {v}"),
    field_of("maturity", "date", "deadline; expiry date; last day; expiry", """
       has until {v} to pay|Until when does {s} have to pay?|until when {s} has to pay""",
       "", "The loan runs until {v}; The offer expires on {v}; It is due by {v}"),
    field_of("advisor", "name", "consultant; agent; clerk; case worker; contact at the bank; person in charge", """
       is a client of {v}|Whose client is {s}?|whose client {s} is
       talked to {v}|Who did {s} talk to?|who {s} talked to
       trusts {v} with the money|Who does {s} trust with the money?|who {s} trusts with the money""",
       "served by {v}", "{v} is in charge of the file; {v} approved the loan; The talk was led by {v}"),
    field_of("salary", "amount", "wage; income; gross pay; wages; compensation; earnings", """
       makes {v} a year|How much does {s} make?|how much {s} makes
       takes home {v}|How much does {s} take home?|how much {s} takes home
       got a raise to {v}|What was the pay of {s} raised to?|what the pay of {s} was raised to
       was offered {v}|How much was {s} offered?|how much {s} was offered""",
       "on {v} a year", "Pay: {v}; The contract says {v} a year; We agreed on {v}; The bonus was {v}"),
    field_of("hired", "date", "joining date; date joined; beginning; entry date", """
       has been with us since {v}|Since when has {s} been with us?|since when {s} has been with us
       began on {v}|When did {s} begin?|when {s} began
       took up the post on {v}|When did {s} take up the post?|when {s} took up the post""",
       "with us since {v}", "Entry: {v}; The work began on {v}; The probation ends on {v}"),
    field_of("review", "date", "last day of work; date of the talk; day of the review", """
       handed in the notice on {v}|When did {s} hand in the notice?|when {s} handed in the notice
       retires on {v}|When does {s} retire?|when {s} retires""",
       "", "The talk took place on {v}; The appraisal is set for {v}; The last working day is {v}"),
    field_of("manager", "name", "line manager; head of department; superior; HR contact; trainer", """
       works under {v}|Who does {s} work under?|who {s} works under
       is managed by {v}|Who manages {s}?|who manages {s}
       was hired by {v}|Who hired {s}?|who hired {s}
       complained about {v}|Who did {s} complain about?|who {s} complained about""",
       "in the team of {v}; managed by {v}", "{v} wrote the appraisal; {v} is the boss; {v} recommended a raise"),
    field_of("sick", "diagnosis", "cause of absence; health problem; reason for absence", """
       stayed at home with {v}|Why did {s} stay at home?|why {s} stayed at home
       is off work with {v}|Why is {s} off work?|why {s} is off work
       called in sick with {v}|Why did {s} call in sick?|why {s} called in sick""",
       "", "The sick note says {v}; The absence was due to {v}; It was {v} that kept {s} away"),
)  # fmt: skip

_BY_KEY = {f.key: f for f in _MORE}


def _widen(field: Field) -> Field:
    more = _BY_KEY.get(field.key)
    if more is None:
        return field
    return replace(
        field, nouns=field.nouns + more.nouns, clauses=field.clauses + more.clauses, mods=field.mods + more.mods,
        plain=field.plain + more.plain,
    )  # fmt: skip


WIDE_COMMON = tuple(map(_widen, COMMON))
"""Fields that any record may have, in all wordings."""

WIDE_DOMAINS = {domain: tuple(map(_widen, own)) + CLOSED[domain] for domain, own in DOMAINS.items()}
"""Fields of each domain in all wordings, with those of labels and counts."""

_OPENERS = (
    "According to the notes", "As agreed", "On the phone", "In the letter", "During the visit", "For the record",
    "As far as we know", "At present", "After a long wait", "To our surprise", "In addition", "Last week", "So far",
    "Since then", "As before", "In the meantime", "At the first meeting", "By all accounts", "Some time ago",
    "After the interview", "When asked", "In the end", "Because of this", "Apart from that", "This morning",
    "Following the usual checks", "From what was said", "At the desk", "Under the new rules", "To sum up",
)  # fmt: skip
_CLOSERS = (
    " at the moment", ", as before", ", which was expected", ", according to the letter", " as agreed", " so far",
    ", as the file shows", ", and nobody objected", " once again", ", it was said", ", which came as a surprise",
    ", as noted by the clerk", ", as everyone knows", " for now", ", and this was confirmed", ", to be checked",
    ", although this may change", ", and the form was signed", ", thank you", ", see page 2", " this year",
)  # fmt: skip
_WHOLE = (
    "Dear colleague, thank you for your letter.", "Just a quick note for the file.", "Kind regards.", "See attached.",
    "Please call back when you can.", "We apologise for the delay.", "I hope this helps.", "More to follow soon.",
    "The dog was left with a friend.", "Coffee was served.", "It rained all day.", "Nobody else was present.",
    "The talk lasted about an hour.", "Several people were waiting.", "A second opinion may be useful.",
    "This is confidential.", "The usual forms were filled in.", "We will write again next month.", "All went well.",
    "There is some family trouble as well.", "Both sides want a quick solution.", "The mood was tense at first.",
    "Travel costs are not covered.", "Further tests are planned.", "An interpreter was not needed.",
)  # fmt: skip


def loosen(rng: random.Random, sentence: str, lower: bool) -> str:
    """Put a sentence into looser words: an opening, an aside or an afterthought.

    Args:
        rng: Random source.
        sentence: The sentence, with its full stop.
        lower: Whether its first letter may become small.

    Returns:
        The sentence, at times followed by another one without facts.
    """
    u, i = rng.random(), rng.randrange(1000)  # always two draws, so that a paraphrase draws the same
    if u < 0.14 and sentence.endswith(".") and ":" not in sentence:
        return f"{_OPENERS[i % len(_OPENERS)]}, {lower_first(sentence) if lower else sentence}"
    if u < 0.26 and sentence.endswith(".") and ":" not in sentence:
        return sentence[:-1] + _CLOSERS[i % len(_CLOSERS)] + "."
    return f"{sentence} {_WHOLE[i % len(_WHOLE)]}" if u < 0.32 else sentence
