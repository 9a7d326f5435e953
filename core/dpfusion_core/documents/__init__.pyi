from .chunks import (
    DocumentReport as DocumentReport,
    Level as Level,
    PrivatizedDocument as PrivatizedDocument,
)
from .levels import (
    Privatizer as Privatizer,
    aprivatize as aprivatize,
    privatize as privatize,
)
