r"""Matching by time, beside the sliding window: the policies that robotics people expect, with their exact semantics.

- `ExactTime` and `ApproximateTime` make sets of samples out of several streams, as ROS ``message_filters`` does.
- `Nearest`, `First`, `Last` and `Linear` look one stream up at an instant, as the interpolators of Microsoft's
  Platform for Situated Intelligence (\psi) do: in an *available* form, which answers from what has come, and in a
  *reproducible* one, which answers only when nothing that may still come can change the answer.

All of it is pure: no clock, no tasks, no I/O. Instants are ns on one clock.
"""

from agent.align.approximate import ApproximateTime
from agent.align.exact import ExactTime
from agent.align.lookup import First, Last, Linear, Lookup, Nearest, RelativeWindow, Verdict

__all__ = [
    "ApproximateTime",
    "ExactTime",
    "First",
    "Last",
    "Linear",
    "Lookup",
    "Nearest",
    "RelativeWindow",
    "Verdict",
]
