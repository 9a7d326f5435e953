"""Fields with few values: labels out of a short list, and small numbers; their values are in ``wordlists``."""

from __future__ import annotations

from tiny_recipe.fields import Field, field_of

CLOSED: dict[str, tuple[Field, ...]] = {
    "medical": (
        field_of("ward", "ward", "ward; unit; hospital ward; station", """
           is on the {v} ward|Which ward is {s} on?|which ward {s} is on
           lies in {v}|In which ward does {s} lie?|in which ward {s} lies
           was moved to {v}|Where was {s} moved to?|where {s} was moved to
           was treated in {v}|In which unit was {s} treated?|in which unit {s} was treated
           is looked after in {v}|Where is {s} looked after?|where {s} is looked after""",
           "on the {v} ward; a patient of {v}", "The bed is in {v}; {v} took over; The ward in charge is {v}"),
        field_of("outcome", "outcome", "outcome; result; state; condition at discharge", """
           is {v}|How is {s}?|how {s} is
           was found to be {v}|What was {s} found to be?|what {s} was found to be
           left the clinic {v}|How did {s} leave the clinic?|how {s} left the clinic""",
           "", "The outcome was {v}; In the end the state was {v}; The case ended as {v}"),
        field_of("effect", "effect", "side effect; symptom; complaint; reaction; main symptom", """
           complains of {v}|What does {s} complain of?|what {s} complains of
           reported {v}|What did {s} report?|what {s} reported
           felt {v} after the treatment|What did {s} feel after the treatment?|what {s} felt after the treatment
           had {v} as a side effect|Which side effect did {s} have?|which side effect {s} had
           developed {v}|What did {s} develop?|what {s} developed""",
           "with {v}; complaining of {v}", "There was {v}; {v} was noted; The main complaint is {v}; "
           "The treatment was followed by {v}"),
        field_of("age", "age", "age; age in years; patient age", """
           is {v} old|How old is {s}?|how old {s} is
           has an age of {v}|What age is {s}?|what age {s} is""",
           "aged {v}; {v} of age", "The age is given as {v}; The age at admission was {v}"),
        field_of("stay", "days", "length of stay; stay; duration of the stay", """
           stayed for {v}|How long did {s} stay?|how long {s} stayed
           spent {v} in hospital|How long was {s} in hospital?|how long {s} was in hospital""",
           "", "The stay lasted {v}; The stay took {v}"),
        field_of("blood", "group", "blood group; blood type; class; group", """
           has blood group {v}|Which blood group does {s} have?|which blood group {s} has
           belongs to {v}|Which group does {s} belong to?|which group {s} belongs to""", "", ""),
    ),
    "legal": (
        field_of("status", "status", "status; case status; state of the case; state", """
           has a case that is {v}|What is the state of the case of {s}?|what the state of the case of {s} is""",
           "", "The case is {v}; The file is {v}; The matter stands as {v}; At present the claim is {v}"),
        field_of("risk", "level", "risk; risk level; severity; level of risk", """
           is seen as a {v} risk|Which risk is {s}?|which risk {s} is
           was rated {v}|How was {s} rated?|how {s} was rated""",
           "rated {v}", "The risk is {v}; The assessment says {v}"),
        field_of("language", "language", "language; mother tongue; native language; first language", """
           speaks {v}|Which language does {s} speak?|which language {s} speaks
           asked for forms in {v}|In which language did {s} ask for forms?|in which language {s} asked for forms
           grew up speaking {v}|What did {s} grow up speaking?|what {s} grew up speaking""",
           "speaking {v}", "The hearing was held in {v}; {v} is spoken at home"),
        field_of("prior", "times", "number of earlier cases; earlier offences; prior cases", """
           was in court {v} before|How often was {s} in court before?|how often {s} was in court before""",
           "", "The register shows {v}; The count of earlier cases is {v}"),
    ),
    "finance": (
        field_of("standing", "status", "status; account status; state; claim status", """
           has an account that is {v}|What state is the account of {s} in?|what state the account of {s} is in""",
           "", "The account is {v}; The claim is {v}; The application is {v}; The loan is {v}"),
        field_of("cause", "cause", "reason; complaint; reason for the complaint; problem; cause; main problem", """
           complained about {v}|What did {s} complain about?|what {s} complained about
           left because of {v}|Why did {s} leave?|why {s} left
           was unhappy about {v}|What was {s} unhappy about?|what {s} was unhappy about
           called because of {v}|Why did {s} call?|why {s} called
           asks for a refund because of {v}|Why does {s} ask for a refund?|why {s} asks for a refund""",
           "unhappy about {v}", "The reason given was {v}; The complaint is about {v}; The trouble was {v}; "
           "It all began with {v}"),
        field_of("band", "band", "age band; age group; age range; age bracket", """
           is in the age group {v}|Which age group is {s} in?|which age group {s} is in
           falls into the band {v}|Which band does {s} fall into?|which band {s} falls into""",
           "age {v}; in the band {v}", "The age band is {v}; The form ticks {v}"),
        field_of("rating", "points", "score; credit score; rating; satisfaction score", """
           has a score of {v}|What score does {s} have?|what score {s} has
           gave {v}|How many points did {s} give?|how many points {s} gave""",
           "", "The score is {v}; The survey shows {v}"),
    ),
    "hr": (
        field_of("department", "department", "department; team; division; area", """
           works in {v}|In which department does {s} work?|in which department {s} works
           belongs to {v}|Which department does {s} belong to?|which department {s} belongs to
           moved to {v}|Which team did {s} move to?|which team {s} moved to
           was assigned to {v}|What was {s} assigned to?|what {s} was assigned to""",
           "from {v}; of the {v} department", "The desk is in {v}; {v} asked for the transfer; The post is in {v}"),
        field_of("wish", "cause", "reason for leaving; complaint; main complaint; reason; problem at work", """
           left because of {v}|Why did {s} leave?|why {s} left
           complained about {v}|What did {s} complain about?|what {s} complained about
           mentioned {v}|What did {s} mention?|what {s} mentioned""",
           "", "The exit talk was about {v}; The reason given was {v}; What bothered {s} was {v}"),
        field_of("hours", "hours", "weekly hours; working hours; hours a week; overtime", """
           works {v} a week|How much does {s} work a week?|how much {s} works a week""",
           "", "The contract says {v}; The week has {v}"),
        field_of("absence", "days", "days of absence; absence; sick days; leave taken", """
           was absent for {v}|How long was {s} absent?|how long {s} was absent
           took {v} of leave|How much leave did {s} take?|how much leave {s} took""",
           "", "The absence came to {v}; The records show {v} of absence"),
        field_of("mark", "level", "performance; performance rating; level; priority", """
           was rated {v}|How was {s} rated?|how {s} was rated""", "", "The priority is {v}; The level is {v}"),
    ),
}  # fmt: skip
"""Fields of labels and counts by domain; records of the old tasks do not use them."""
