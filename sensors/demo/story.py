"""What happens in the bundled session, and when.

    seconds     face                       voice                typed text          what it shows
    0.0  5.5    smiles, well lit           cheerful             happy (0.3)         all three agree
    5.5  9.6    hidden by a curtain        cheerful, goes on    (0.3 ages)          vision silent
    9.6 13.0    hidden                     silent               gone from 6.3       what was said, fading
   13.0 15.0    calm, comes nearer         silent               none                vision, fading words
   15.0 20.5    smiles                     angry and loud       angry (16.6)        conflict
   20.5 28.0    sad, dark and blurred      slow, soft and sad   sad (23.2)          agree, at low quality
   28.5 31.0    leaves the picture         silent               (23.2 ages)         text alone
   31.0 38.0    is back, smiles in light   cheerful (32.0)      happy (33.0)        all three agree again

A text counts for six seconds, if the config leaves its span as it is; spoken words become text as well.
All instants are seconds from the start of the session.
"""

from __future__ import annotations

from dataclasses import dataclass

DURATION_S = 38.0
START = "2026-11-21T10:00:00Z"
"""The instant at which the session claims to have been recorded."""


@dataclass(frozen=True, slots=True)
class Line:
    """One spoken line."""

    at_s: float
    text: str
    speed: float = 1.0
    """How fast it is spoken; 1 is the voice's own pace."""
    pitch: float = 1.0
    """Factor on the voice's pitch (and, as with a tape, on its formants): keep within 0.9 to 1.1."""
    level_db: float = -23.0
    """RMS level of the spoken parts, dB below full scale."""


@dataclass(frozen=True, slots=True)
class Message:
    """One typed message."""

    at_s: float
    text: str


LINES = (
    Line(
        0.15,
        "Good morning! What a wonderful day! I am so happy to see you all! This is going to be fantastic!",
        speed=1.1,
        pitch=1.05,
    ),
    Line(5.7, "And the launch was perfect! Everybody cheered, it was amazing! I loved it!", speed=1.1, pitch=1.06),
    Line(
        15.0,
        "No! This is an outrage! I am so angry with you! How dare you! Stop it, right now!",
        speed=1.15,
        pitch=1.06,
        level_db=-17.0,
    ),
    Line(
        21.8,
        "I miss my friends. I feel so sad, and so alone tonight.",
        speed=0.8,
        pitch=0.94,
        level_db=-30.0,
    ),
    Line(
        32.0,
        "Oh, there you are! What a lovely surprise! I am so happy! Thank you, this is the best day ever!",
        speed=1.1,
        pitch=1.05,
    ),
)

MESSAGES = (
    Message(0.3, "What a wonderful day, I am so happy!"),
    Message(16.6, "I am furious. This is unacceptable!"),
    Message(23.2, "I feel so sad and lonely."),
    Message(33.0, "I love this, thank you so much!"),
)

Track = tuple[tuple[float, float], ...]
"""Key frames (instant, value), in order; between two the value eases from one to the other, outside it holds."""

SMILE: Track = (
    (12.0, 1.0), (12.5, -0.3), (14.5, -0.3), (15.0, 1.0), (20.4, 1.0), (21.4, -1.0), (29.0, -1.0), (29.5, 1.0)
)  # fmt: skip
"""1 as the portrait smiles, 0 neutral, -1 sad."""
CURTAIN: Track = ((5.3, 0.0), (5.8, 1.0), (12.8, 1.0), (13.2, 0.0))
"""Share of the picture that the curtain covers, from above."""
ZOOM: Track = ((0.0, 1.9), (4.0, 2.1), (13.0, 1.7), (15.0, 2.2), (20.0, 2.2), (23.0, 1.9), (31.0, 1.8), (34.0, 2.1))
"""Pixels on the screen for one pixel of the portrait, whose face is about 95 pixels wide."""
ACROSS: Track = ((0.0, 320.0), (3.0, 350.0), (5.0, 320.0), (13.0, 290.0), (15.0, 330.0), (22.0, 310.0), (31.0, 320.0))
"""Where the middle of the face is on the screen, pixels from the left."""
DOWN: Track = ((0.0, 235.0), (28.0, 235.0), (28.9, -190.0), (30.6, -190.0), (31.6, 235.0))
"""Where the middle of the face is on the screen, pixels from the top; below 0 it has left the picture."""
ROLL: Track = ((0.0, 0.0), (2.0, 3.0), (4.5, -2.0), (13.0, 2.0), (16.0, -3.0), (18.5, 3.0), (22.0, 5.0), (31.0, 0.0))
"""Tilt of the head, degrees, positive to the viewer's left."""
LIGHT: Track = ((21.0, 1.0), (23.0, 0.30), (28.0, 0.30), (30.5, 1.0))
"""Factor on the light that falls on the scene."""
BLUR: Track = ((21.5, 0.0), (23.5, 2.2), (26.5, 2.2), (28.0, 0.8), (31.0, 0.0))
"""Standard deviation of the defocus, pixels on the screen."""


def at(track: Track, t_s: float) -> float:
    """The value of `track` at `t_s`, eased between key frames by the smooth step 3u² − 2u³."""
    before = track[0]
    for after in track:
        if t_s < after[0]:
            if before is after:
                return after[1]
            u = (t_s - before[0]) / (after[0] - before[0])
            return before[1] + (after[1] - before[1]) * u * u * (3.0 - 2.0 * u)
        before = after
    return before[1]
