"""``[encoders.<modality>]``: what reads each modality, and how far it is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.clock import SECOND
from agent.config.scalars import Duration, Rate, Share, within
from agent.config.table import Table
from agent.types import Modality

Span = Annotated[int, within("1 ns", "60 s")]


def _primary(tags: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """`tags`, if each is a primary subtag of BCP 47, and there is one. Raises `ValueError`."""
    wrong = [tag for tag in tags or () if not re.fullmatch("[a-z]{2,3}", tag)]
    if tags is not None and (wrong or not tags):
        found = ", ".join(map(repr, wrong)) or "none"
        raise ValueError(f'must be languages of two or three small letters, such as "en"; found {found}')
    return tags


class Encoder(Table):
    """``[encoders.<modality>]``."""

    enabled: bool = True
    backend: Literal["auto", "tensorrt", "onnxruntime"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    span: Span
    reliability: Share
    """The defaults are the mean recall of each encoder on people it does not know (engines/models.toml), rounded."""
    tau: Duration
    labels: dict[str, str] = Field(default_factory=dict)


class Vision(Encoder):
    """``[encoders.vision]``."""

    span: Span = 1 * SECOND
    reliability: Share = 0.6
    tau: Duration = 1 * SECOND
    rate: Rate = 5.0


class Audio(Encoder):
    """``[encoders.audio]``."""

    span: Annotated[int, within("1 ns", "10 s")] = 3 * SECOND  # the voice encoder remembers no more
    reliability: Share = 0.8
    tau: Duration = 3 * SECOND


class Language(Encoder):
    """``[encoders.text]``."""

    span: Span = 6 * SECOND
    reliability: Share = 0.65
    tau: Duration = 5 * SECOND
    languages: Annotated[tuple[str, ...] | None, AfterValidator(_primary)] = None
    """Texts in others are left out and counted; None for all that the models know."""


class Encoders(Table):
    """``[encoders]``."""

    vision: Vision = Vision()
    audio: Audio = Audio()
    text: Language = Language()

    def items(self) -> Iterable[tuple[Modality, Encoder]]:
        """Each modality with its table."""
        return ((Modality.VISION, self.vision), (Modality.AUDIO, self.audio), (Modality.TEXT, self.text))
