from .chunks import (
    DocumentReport as DocumentReport,
    Level as Level,
    PrivatizedDocument as PrivatizedDocument,
)
from .labels import (
    LabelReport as LabelReport,
    LabelSummary as LabelSummary,
    Labeller as Labeller,
    label_folder as label_folder,
)
from .levels import (
    aprivatize as aprivatize,
    privatize as privatize,
)
from .privatizer import Privatizer as Privatizer
from .totals import (
    Labels as Labels,
    LabelTotal as LabelTotal,
    label_totals as label_totals,
)
