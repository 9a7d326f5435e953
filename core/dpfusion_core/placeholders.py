"""What stands in the place of private text in a view that hides it."""

from collections.abc import Callable

from dpfusion_core.errors import ViewError, errors_as
from dpfusion_core.messages import Segment

Placeholder = Callable[[Segment], str]
"""Maps a private segment to what stands in its place in a view that hides it."""


def fixed_placeholder(text: str = "____") -> Placeholder:
    """Return a placeholder that is the same for every segment, so that not even a length shows.

    Args:
        text: What stands in a private segment's place.

    Raises:
        ViewError: If ``text`` is empty.

    Example:
        >>> fixed_placeholder()(Segment("Jane Roe", is_private=True))
        '____'
    """
    if not text:
        raise ViewError("The placeholder is empty. Give it at least one character.")
    return lambda segment: text


def length_preserving_placeholder(character: str = "_") -> Placeholder:
    """Return a placeholder with one character for each character of the private text.

    The public view then shows the length of every private segment: replace neighbours are texts of
    that same length.

    Args:
        character: A single character.

    Raises:
        ViewError: If ``character`` is not one character.

    Example:
        >>> length_preserving_placeholder()(Segment("Jane", is_private=True))
        '____'
    """
    if len(character) != 1:
        raise ViewError("A length-preserving placeholder needs exactly one character.")
    return lambda segment: character * len(segment.text)


def label_placeholder(unlabelled: str = "____") -> Placeholder:
    """Return a placeholder that shows what kind of thing is hidden, for example ``[PERSON]``.

    The public view then shows the labels: neighbours are texts in which the tagger finds the same ones.
    Numbered labels, ``[PERSON_1]``, also show which segments name the same entity.

    Args:
        unlabelled: What stands in the place of segments without a label.

    Raises:
        ViewError: If ``unlabelled`` is empty.

    Example:
        >>> label_placeholder()(Segment("Jane Roe", is_private=True, label="PERSON"))
        '[PERSON]'
    """
    fallback = fixed_placeholder(unlabelled)
    return lambda segment: f"[{segment.label}]" if segment.label else fallback(segment)


def hide(segment: Segment, placeholder: Placeholder) -> str:
    """Return what stands in the place of a private segment.

    Raises:
        ViewError: If the placeholder fails, or is no text.
    """
    with errors_as(ViewError, "The placeholder function failed ({error})."):
        text = placeholder(segment)
    if not isinstance(text, str):
        raise ViewError(f"The placeholder function must return a string, not {type(text).__name__}.")
    return text
