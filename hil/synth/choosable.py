"""The `space` section of a profile: what may be chosen of a network beyond widths and depth.

Rule of this file: it is read without a network; `choosing.py` says what it means for one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from hil.core.yamlfile import StrictModel

Precision = Literal["fp16", "fp32", "int8"]


def _each_once(written: tuple[Any, ...]) -> tuple[Any, ...]:
    if not written:
        raise ValueError("the list is empty: leave it out")
    for number, value in enumerate(written):
        if value in written[:number]:
            raise ValueError(f"{value} is there twice: remove one")
    return written


Count = Annotated[int, Field(ge=1)]
_LISTED = (Field(strict=False), AfterValidator(_each_once))
Resolutions = Annotated[
    Annotated[tuple[Count, ...], *_LISTED, Tag("list")] | Annotated[Literal["auto"], Tag("auto")],
    # Whoever writes a word is told of the one word there is, and not that it is no list.
    Discriminator(lambda written: "auto" if isinstance(written, str) else "list"),
]


class Choosable(StrictModel):
    """What may be chosen of a network beyond its widths and its depth.

    Attributes:
        kernels: whether windows of convolutions may shrink.
        resolutions: heights of the input in rows below the prototype's, the other side in
            proportion; or `auto` for up to five from half of it.
        precisions: what engines may be built with; the profile's `precision`, the prototype's, is
            among them.
        granule: channels by which widths of 32 and more step.
        freeze: what stays as the prototype has it, as shell patterns (`head.*`): modules, with
            their width, their window and the block they are in, or variables (`width:*`).
    """

    kernels: bool = False
    resolutions: Resolutions | None = None
    precisions: Annotated[tuple[Precision, ...], *_LISTED] | None = None
    granule: Count | None = None
    freeze: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], *_LISTED] | None = None
