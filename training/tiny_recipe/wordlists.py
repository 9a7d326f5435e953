"""Stems and words out of which :mod:`tiny_recipe.values` builds values."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ONSETS = _split(
    "b c d f g h j k l m n p r s t v w z br ch cl dr fr gl gr kr pl pr qu sh sk sl sn st th tr tw"
)
CONSONANTS = _split("b c d f g h j k l m n p r s t v w z l m n r s t")
VOWELS = _split("a a e e i i o o u y ai au ea ee ei ie io oa oo ou")
CODAS = ("", "", "", "", *_split("n r s l t m d k nd rt x ck ng th st p ll ss b g"))

GIVEN_NAMES = _split(
    "Anna Maria John Peter Laura David Sophie Thomas Emma Lukas Nina Paul Clara Felix Julia Martin Sarah Daniel "
    "Elena Victor Irene Oscar Helen Samuel Alice George Ruth Henry Grace Walter Nora Simon Judith Adrian Carla Hugo "
    "Amira Yusuf Leila Omar Fatima Hassan Priya Arjun Ananya Ravi Mei Wei Ling Hiroshi Yuki Akira Chidi Amara Kwame "
    "Zainab Ifeoma Tunde Ingrid Bjorn Astrid Lars Freya Sven Pavel Olga Dmitri Katya Ivan Svetlana Marek Zofia Jan "
    "Agnieszka Tomasz Eva Matteo Giulia Luca Chiara Marco Francesca Diego Carmen Javier Lucia Pablo Ines Joao Beatriz "
    "Rui Pierre Camille Antoine Margot Luc Elise Niamh Liam Aoife Sean Ciara Owen Rhys Megan Gareth Bronwyn Callum "
    "Isla Fergus Mary James Robert Patricia Jennifer Michael Linda William Elizabeth Barbara Richard Susan Joseph "
    "Jessica Karen Nancy Lisa Betty Margaret Sandra Ashley Kimberly Emily Donna Michelle Carol Amanda Dorothy Melissa "
    "Deborah Stephanie Rebecca Sharon Kathleen Amy Angela Shirley Brenda Pamela Nicole Samantha Katherine Christine "
    "Rachel Catherine Brian Edward Ronald Anthony Kevin Jason Matthew Gary Timothy Jose Larry Jeffrey Frank Scott Eric "
    "Stephen Andrew Raymond Gregory Joshua Jerry Dennis Patrick Alexander Jack Benjamin Roger Keith Terry Harry Ralph "
    "Noah Mason Ethan Olivia Ava Mia Isabella Charlotte Amelia Harper Evelyn Ella Lily Zoe Stella Hazel Violet Aurora"
)
GIVEN_STEMS = _split(
    "Al Ar Bel Ber Cor Dal Del Dor El Em Fal Fer Gar Ger Han Hel Il Is Jar Jor Kal Kar Lam Lor Mal Mar Mir Nad Nor "
    "Ol Or Pel Per Ral Ros Sal Ser Tal Ter Ul Val Ver Wil Yan Yor Zel Zor Ad Ben Cas Dav Ed Fin Gav Hav Jas Kas Lev"
)
GIVEN_ENDS = _split(
    "a ia ina ena ara iel ion an in o io us ius ert win mund rick gard linde etta ella issa wen ric mar don vin as is "
    "os ek ika inka ette elle ine ice ander ard ald olf ulf hild run ay ie y ah eth iah"
)
SURNAMES = _split(
    "Smith Johnson Brown Taylor Miller Wilson Moore Anderson Jackson White Harris Clark Lewis Walker Hall Young King "
    "Wright Scott Green Baker Adams Nelson Hill Campbell Mitchell Roberts Carter Phillips Evans Turner Parker Collins "
    "Edwards Stewart Morris Murphy Cook Rogers Morgan Cooper Reed Bailey Bell Ward Cox Gray Watson Brooks Kelly Price "
    "Bennett Wood Barnes Ross Long Foster Powell Perry Butler Garcia Martinez Lopez Gonzalez Hernandez Perez Sanchez "
    "Ramirez Torres Flores Rivera Gomez Diaz Cruz Reyes Morales Ortiz Silva Santos Costa Ferreira Almeida Rossi "
    "Ferrari Bianchi Romano Greco Conti Schmidt Schneider Fischer Weber Wagner Becker Hoffmann Koch Richter Klein Wolf "
    "Neumann Krause Lehmann Dubois Laurent Moreau Lefevre Girard Bonnet Novak Horvat Kovacs Nagy Popescu Ionescu "
    "Ivanov Petrov Sokolov Nowak Kowalski Wisniewski Nguyen Tran Pham Chen Wang Zhang Liu Yang Huang Tanaka Sato "
    "Suzuki Watanabe Ito Kim Park Choi Singh Patel Sharma Gupta Khan Ahmed Ali Hussein Okafor Mensah Diallo Okoye "
    "Abebe Haddad Yilmaz Demir Kaya Larsen Hansen Jensen Nilsson Lindqvist Virtanen Makinen Byrne Walsh Doyle Quinn"
)
SURNAME_STEMS = _split(
    "Ash Beck Berg Black Bolt Brad Brand Bur Cald Cant Carl Cart Col Cor Dal Dan Dun East Ed Ell Fair Far Fen Fitz "
    "Gar Gold Grim Had Hal Ham Har Hart Hather Hol Hum Ing Iver Jor Kar Kel Kirk Lang Lin Lock Lund Mac Mal Mar Mel "
    "Mid Mor Nor North Oak Ol Os Pem Pick Pres Rad Rav Rich Rom Ros Rush Sand Sel Shel Sin South Stan Strat Sut Tal "
    "Tar Thorn Til Under Van Vel Wal War Wes West Whit Wil Win Wood Wy Yar Zim Dom Gru Kra Pro Sta Hor Bog Pet Vas"
)
SURNAME_ENDS = _split(
    "son sen ton ham ley field ford well worth wood man mann berg stein er ers ini etti elli ez es ov ova ski ska ic "
    "escu opoulos idis eau ier ard in ell bury by dale den den gate hurst land more mer ner ridge stad strom sson ura "
    "oto awa ani adi oglu ko enko ak ek ik uk ar us iak ner lin quist vik"
)
PLACES = _split(
    "Lisbon Porto Madrid Seville Paris Lyon Marseille Bordeaux Rome Milan Turin Naples Berlin Hamburg Munich Cologne "
    "Dresden Vienna Graz Zurich Geneva Basel Prague Brno Warsaw Krakow Gdansk Budapest Athens Sofia Bucharest Oslo "
    "Bergen Stockholm Malmo Uppsala Helsinki Tampere Copenhagen Aarhus Dublin Cork Galway London Leeds Bristol "
    "Manchester Glasgow Edinburgh Cardiff Boston Chicago Denver Seattle Portland Austin Dallas Houston Phoenix Atlanta "
    "Miami Toronto Montreal Vancouver Ottawa Sydney Melbourne Perth Auckland Tokyo Osaka Kyoto Seoul Busan Beijing "
    "Shanghai Mumbai Delhi Chennai Nairobi Lagos Accra Cairo Tunis Dakar Lima Bogota Santiago Quito Montevideo Leipzig "
    "Antwerp Ghent Utrecht Rotterdam Leiden Toulouse Nantes Lille Valencia Granada Palermo Verona Split Zagreb Riga "
    "Tallinn Vilnius Cleveland Omaha Tulsa Memphis Nashville Richmond Baltimore Pittsburgh Buffalo Albany Tucson Boise"
)
PLACE_STEMS = _split(
    "Ald Ambr Ash Bald Bar Bel Brad Bren Brook Cal Cam Car Chester Clay Cold Cor Dal Dor Dun East Elm Ever Fair Fal "
    "Fen Gar Glen Graf Green Grim Had Hal Hart Haw High Hol Kings Lak Lan Lin Lock Lud Mal Maple Mar Mer Mill Mon Mor "
    "Nor Oak Old Or Pem Pine Quin Rad Raven Red River Rock Ros Sal San Sel Shel Silver Spring Stan Stone Strath Sun "
    "Tal Tor Val Ver Wal Wash Wey Whit Wil Win Wood Wyn Yar Zel Kras Nov Petr Vel Zag Tar Bor Lub"
)
PLACE_ENDS = _split(
    "ton ville burg ford field ham mouth port wick bury dale stead worth haven bridge ley by thorpe stadt dorf heim "
    "ingen au itz ow ovo ice grad sk ino ona ada ento illa eaux ac ay igny olm vik borg sund ness more view side water"
)
PLACE_HEADS = (
    "San",
    "Santa",
    "Port",
    "New",
    "Fort",
    "Lake",
    "Mount",
    "North",
    "South",
    "East",
    "West",
    "Upper",
    "St.",
)
PLACE_TAILS = (
    "Springs",
    "Falls",
    "Heights",
    "Hills",
    "Bay",
    "Beach",
    "Park",
    "Valley",
    "Grove",
    "Creek",
    "Harbor",
)

ORG_TAILS = _split(
    "Group LLC Ltd Inc. Partners Bank Clinic Systems Foods Logistics Hotels Energy School Motors Labs Media Textiles "
    "Insurance Consulting Airlines Pharma Software Construction Brothers Steel Shipping Robotics University Hospital "
    "Bakery Publishing Architects Telecom Farms Analytics Holdings Studios Industries Electric Solutions GmbH Corp."
)
ORG_MIDDLES = _split(
    "Marine Digital Medical Data General Central Global Solar Rail Paper Glass Water Timber Legal Dental Urban Coastal "
    "Optical Chemical Sports Freight Security Capital Auto Design Food Health Home Learning Travel"
)
COLOURS = _split(
    "red blue green yellow black white grey purple orange brown silver gold pink violet amber teal crimson"
)

ORGANS = _split(
    "knee hip shoulder elbow wrist ankle spine jaw skull kidney liver lung heart stomach bowel colon bladder thyroid "
    "throat ear eye nerve skin breast prostate ovarian uterine pancreatic gastric cervical lumbar pelvic hand foot rib "
    "sinus tendon muscle joint bone brain retinal dental nasal vascular cardiac renal hepatic pulmonary"
)
AILMENTS = _split(
    "fracture infection inflammation pain ulcer cancer failure injury abscess cyst tumor stenosis sprain tear lesion "
    "disorder disease syndrome insufficiency obstruction embolism thrombosis hernia rupture edema spasm atrophy"
)
MEDICAL_ROOTS = _split(
    "gastr nephr hepat card arthr derm neur oste my bronch cyst enter col ot rhin pharyng laryng trache pneum encephal "
    "mening myel phleb arteri ang lymph aden thyr pancreat splen chol mast orch oophor salping vagin cervic prostat "
    "urethr ren pleur peri end ten burs chondr spondyl fasci cellul kerat conjunctiv uve retin scler blephar gingiv "
    "gloss stomat parotid tonsill esophag duoden ile append proct diverticul lip leuk erythr hem thromb hyper hypo"
)
MEDICAL_ENDS = _split(
    "itis osis opathy algia emia oma ectasia asthenia iasis openia orrhea otrophy odynia uria"
)
DISEASES = tuple(
    "asthma;type 2 diabetes;type 1 diabetes;migraine;hepatitis C;lupus;pneumonia;epilepsy;psoriasis;gout;anemia;"
    "hypertension;bipolar disorder;multiple sclerosis;celiac disease;kidney stones;glaucoma;arthritis;tuberculosis;"
    "Crohn's disease;breast cancer;lung cancer;melanoma;leukemia;schizophrenia;depression;HIV;stroke;sepsis;angina;"
    "osteoporosis;eczema;malaria;dengue;shingles;sciatica;vertigo;insomnia;a hernia;appendicitis;bronchitis;dementia;"
    "Parkinson's disease;cirrhosis;endometriosis;scoliosis;tinnitus;rosacea;sleep apnea;heart failure;panic disorder;"
    "anorexia;a broken arm;a torn ligament;high cholesterol;iron deficiency;chickenpox;measles;whooping cough".split(
        ";"
    )
)
SEVERITY = _split(
    "acute chronic mild severe recurrent early advanced juvenile bilateral viral bacterial allergic idiopathic primary "
    "secondary persistent stable atypical congenital suspected"
)
CRIMES = tuple(
    "burglary;tax fraud;arson;shoplifting;perjury;assault;drunk driving;identity theft;money laundering;embezzlement;"
    "forgery;vandalism;extortion;bribery;trespassing;stalking;kidnapping;armed robbery;insider trading;wire fraud;"
    "smuggling;drug possession;contempt of court;reckless driving;copyright infringement;breach of contract;libel;"
    "poaching;counterfeiting;blackmail;manslaughter;car theft;hit and run;obstruction of justice;tax evasion;"
    "witness tampering;cyberstalking;harassment;disorderly conduct;resisting arrest;illegal dumping".split(
        ";"
    )
)
CRIME_ACTS = tuple(
    "theft of;sale of;possession of;trafficking in;forgery of;smuggling of;destruction of;illegal export of;"
    "receiving stolen;unlawful storage of;misuse of;fraud involving;dealing in;damage to;handling stolen".split(
        ";"
    )
)
CRIME_MODES = _split("attempted aggravated repeated gross serious petty second-degree first-degree alleged")
GOODS = _split(
    "copper jewels tobacco firearms ivory bicycles laptops phones paintings fuel cattle timber explosives antiques "
    "passports cheques medicines software wine coins scooters furniture cables trucks documents cameras watches grain "
    "whisky perfume fireworks turtles orchids solvents batteries tickets banknotes steroids diamonds vehicles"
)
PRODUCT_KINDS = tuple(
    "fund;bond;loan;mortgage;savings account;pension plan;life insurance;credit line;credit card;annuity;trust;"
    "term deposit;margin account;leasing contract;overdraft;checking account;stock portfolio;index fund;policy;"
    "car insurance;home loan;student loan;investment plan;brokerage account;travel insurance;certificate".split(
        ";"
    )
)
PRODUCT_STYLES = _split(
    "fixed variable flexible premium green global short-term long-term ten-year five-year joint private corporate "
    "senior junior secured unsecured personal business starter gold platinum balanced growth offshore prepaid"
)
JOBS = _split(
    "teacher nurse engineer plumber baker lawyer driver pilot painter carpenter accountant librarian electrician chef "
    "farmer welder dentist pharmacist journalist translator mechanic florist clerk architect surveyor analyst cashier "
    "auditor barber tailor gardener geologist actuary programmer receptionist supervisor technician inspector planner "
    "consultant designer buyer trainer recruiter chemist biologist waiter cook guard porter musician sculptor editor"
)
JOB_STYLES = _split(
    "senior junior assistant chief deputy lead regional night retired trainee head freelance chartered field marine "
    "clinical forensic technical commercial industrial legal data payroll network school hospital warehouse"
)
DRUG_ENDS = _split(
    "pril olol statin cillin mycin azole idine zepam formin oxetine sartan vir mab ine ol ide one ax"
)
STREET_ENDS = _split(
    "Street Road Avenue Lane Drive Way Court Square Boulevard Close Row Terrace Hill Park Alley"
)
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
MONTHS = _split("January February March April May June July August September October November December")

LABELS: dict[str, tuple[str, ...]] = {
    "ward": ("cardiology", "oncology", "surgery", "neurology", "pediatrics", "radiology", "urology", "dermatology",
             "psychiatry", "geriatrics", "orthopedics", "maternity", "intensive care", "emergency", "nephrology",
             "hematology", "pulmonology", "rehabilitation", "gastroenterology", "rheumatology", "internal medicine"),
    "outcome": ("recovered", "improved", "unchanged", "worse", "transferred", "discharged", "stable", "readmitted",
                "critical", "cured", "in remission", "under observation", "referred", "relapsed"),
    "department": ("sales", "marketing", "finance", "logistics", "engineering", "legal", "support", "research",
                   "purchasing", "production", "accounting", "design", "security", "training", "quality", "planning"),
    "status": ("open", "closed", "pending", "rejected", "approved", "on hold", "cancelled", "settled", "active",
               "expired", "overdue", "paid", "disputed", "escalated", "withdrawn", "archived"),
    "level": ("low", "medium", "high", "very low", "very high", "moderate", "severe", "mild", "critical", "none",
              "minor", "major", "elevated", "normal", "urgent"),
    "band": ("under 18", "18-29", "30-39", "40-49", "50-59", "60-69", "70-79", "over 80", "0-17", "18-34", "35-49",
             "50-64", "65-79", "20-39", "40-59", "60-79", "over 65", "under 30"),
    "language": ("English", "German", "French", "Spanish", "Italian", "Polish", "Turkish", "Arabic", "Dutch", "Hindi",
                 "Russian", "Greek", "Swedish", "Japanese", "Korean", "Danish", "Czech", "Finnish"),
    "effect": ("nausea", "headache", "dizziness", "rash", "fatigue", "fever", "cough", "dry mouth", "insomnia",
               "back pain", "chest pain", "itching", "vomiting", "tremor", "cramps", "swelling", "sore throat",
               "blurred vision", "weight loss", "poor appetite", "palpitations", "numbness"),
    "cause": ("long waiting times", "poor service", "a late delivery", "a wrong invoice", "a broken part", "noise",
              "high prices", "rude staff", "missing parts", "a software error", "a billing error", "lost luggage",
              "cold food", "a damaged box", "slow support", "a power cut", "unpaid overtime", "bad food", "a leak"),
    "group": ("A+", "A-", "B+", "B-", "AB+", "AB-", "0+", "0-", "type A", "type B", "class 1", "class 2", "class 3",
              "grade A", "grade B", "grade C", "grade D", "team red", "team blue", "team green"),
}  # fmt: skip
"""Values of each kind of label; every fifth one is held out."""

COUNTS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "age": (18, 96, ("{}", "{}", "{} years")),
    "days": (2, 60, ("{} days", "{} nights", "{} days", "{}")),
    "times": (2, 40, ("{}", "{} times", "{} visits")),
    "points": (10, 100, ("{}", "{} points", "{} out of 100")),
    "hours": (10, 70, ("{} hours", "{}", "{} minutes")),
}
"""Smallest and largest number of each kind of count, and its forms."""
