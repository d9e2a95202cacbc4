"""``[view]``: live viewing in Rerun."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.table import Table

ADDRESS = re.compile(r"rerun\+https?://\S+")


def _viewer(said: bool | str) -> bool | str:
    if isinstance(said, bool) or ADDRESS.fullmatch(said) or said.endswith(".rrd"):
        return said
    raise ValueError(
        f'true starts a viewer here, "rerun+http://HOST:9876/proxy" finds one, "FILE.rrd" writes a file; found {said!r}'
    )


class View(Table):
    """``[view]``."""

    rerun: Annotated[bool | str, AfterValidator(_viewer)] = False
    """``True`` starts a viewer on this machine; an address finds one elsewhere; a ``.rrd`` file is written."""
    fps: Annotated[float, Field(gt=0, le=30)] = 5.0
    """Pictures a second and camera at most."""
