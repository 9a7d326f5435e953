from .chunks import (
    DocumentReport as DocumentReport,
    Level as Level,
    PrivatizedDocument as PrivatizedDocument,
)
from .levels import (
    aprivatize as aprivatize,
    privatize as privatize,
)
from .privatizer import Privatizer as Privatizer
