"""What a prompt template sees in place of its arguments: tokens that stand for them, and tell nothing.

A token that comes out whole is replaced by the argument. A template that computes with a private one (cuts
it, counts it, compares it) gets an error, not a wrong or empty context: what it did could show in the public
view, and it would do it to the token.
"""

from collections.abc import Callable
from typing import Any, NoReturn, Self, SupportsIndex

from dpfusion_core.errors import RefusedError

_SAME = ("strip", "lstrip", "rstrip", "expandtabs")
"""What changes nothing but spaces at the ends."""

_HARMLESS = frozenset(
    {
        "__add__",
        "__class__",
        "__delattr__",
        "__dir__",
        "__doc__",
        "__format__",
        "__getattribute__",
        "__getnewargs__",
        "__getstate__",
        "__hash__",
        "__init__",
        "__init_subclass__",
        "__new__",
        "__reduce__",
        "__reduce_ex__",
        "__repr__",
        "__setattr__",
        "__sizeof__",
        "__str__",
        "__subclasshook__",
        "encode",
        "isascii",
        "maketrans",
    }
)
"""What a string is asked for without a template's doing, and what keeps the token whole."""

_ARMED = [name for name in dir(str) if name not in _HARMLESS]


class StandIn(str):
    """A token that stands for a private text."""

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self  # a filter that makes a string of it first still meets a token

    def __format__(self, spec: str) -> str:
        return _refuse() if spec else self.plain

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return str, (self.plain,)

    @property
    def plain(self) -> str:
        """The token as a plain string."""
        return "".join((self,))

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "jinja_")):
            raise AttributeError(name)
        _refuse()


class PublicStandIn(StandIn):
    """A token that stands for a public text; what a template computes with it is done to the text.

    Args:
        token: The token.
        value: The text.
        again: Makes stand-ins of what was computed.
    """

    _value: str
    _again: Callable[[Any], Any]

    def __new__(cls, token: str, value: str, again: Callable[[Any], Any]) -> Self:
        """Make a token."""
        made = super().__new__(cls, token)
        made._value, made._again = value, again
        return made

    def __bool__(self) -> bool:
        return bool(self._value)


class NodeStandIn(StandIn):
    """A token that stands for a node: its text is what the LLM shall see of it, whatever way it is asked for."""

    @property
    def node(self) -> "NodeStandIn":
        """The node of a node with a score."""
        return self

    @property
    def text(self) -> str:
        """Its text."""
        return StandIn(self.plain)

    content = text

    def get_content(self, *args: Any, **kwargs: Any) -> str:
        """Return its text."""
        return StandIn(self.plain)

    get_text = get_content


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise RefusedError(
        "A prompt template computes with an argument that is private: a filter, a test, a slice, a length or an "
        "attribute. Do that before you give the argument to the template, or name it in public_arguments if it "
        "is public."
    )


def _same(self: str, *args: Any) -> str:
    return self


def _computed(name: str) -> Callable[..., Any]:
    def compute(self: PublicStandIn, *args: Any, **kwargs: Any) -> Any:
        return self._again(getattr(self._value, name)(*args, **kwargs))

    return compute


for _name in _ARMED:
    setattr(StandIn, _name, _same if _name in _SAME else _refuse)
    setattr(PublicStandIn, _name, _computed(_name))


class Items(list[Any]):
    """A list that a template without loops writes as paragraphs, not as Python would."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Items(found) if isinstance(index, slice) else found


class Names(dict[str, Any]):
    """A mapping in which a template may look names up, but cannot write them, nor learn which there are.

    Args:
        values: What the template sees in place of each value.
        shown: What it sees in place of each name where it goes through them or writes the whole.
        nothing: What it sees where it looks up another name.
    """

    def __init__(self, values: dict[Any, Any], shown: dict[Any, str], nothing: str) -> None:
        super().__init__({shown[name]: value for name, value in values.items()})
        self._values = values
        self._nothing = nothing

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: Any) -> Any:
        return self.get(name)

    def get(self, name: Any, default: Any = None) -> Any:
        """Return the value of a name, as ``[]`` does."""
        return self._values.get(name, super().get(name, self._nothing))
