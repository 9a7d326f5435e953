from .answerers import (
    Answerer as Answerer,
    FunctionAnswerer as FunctionAnswerer,
    StreamingAnswerer as StreamingAnswerer,
)
from .consensus import (
    Consensus as Consensus,
)
from .server import (
    ChatServer as ChatServer,
)
from .views import (
    plain_text as plain_text,
)
