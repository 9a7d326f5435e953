from .answerers import (
    Answerer as Answerer,
    FunctionAnswerer as FunctionAnswerer,
    StreamingAnswerer as StreamingAnswerer,
)
from .consensus import (
    Consensus as Consensus,
)
from .counts import (
    CountOptions as CountOptions,
    CountResult as CountResult,
    MeasureResult as MeasureResult,
)
from .retrieval import (
    documents_message as documents_message,
    passing as passing,
)
from .server import (
    ChatServer as ChatServer,
)
from .views import (
    plain_text as plain_text,
)
