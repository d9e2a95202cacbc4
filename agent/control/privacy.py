"""What may be inferred, and what may leave the process: every question of privacy is answered here.

Inferring emotions of people at work and in education is prohibited in the European Union, but for medical and safety
reasons (Regulation (EU) 2024/1689, the AI Act, Article 5(1)(f)); elsewhere those concerned have to be told
(Article 50(3)).
"""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from agent.config import Config, ConfigError

log = logging.getLogger(__name__)

PROHIBITED = ("work", "education")
"""Values of ``[privacy] place`` where emotions must not be inferred in the European Union."""
NOTICE = Path("docs") / "privacy.md"
"""What to tell those concerned."""


class Outlet(StrEnum):
    """A way by which pictures and sound could leave the process."""

    RECORD = "record"
    """Into the files of a recorded session."""
    DASHBOARD = "dashboard"
    """The preview on the dashboard's page."""
    VIEW = "view"
    """To a viewer or a file of Rerun."""
    SEND = "send"
    """To the agent on another host, by the verb of that name, which does nothing else."""


def may_leave(config: Config, outlet: Outlet) -> bool:
    """Whether raw pictures and sound may leave the process that way, if it is used at all.

    With the shipped config none is used: the dashboard is served in the demo alone, a recording has to be asked for,
    and so has the verb ``send``. ``[privacy] raw_media = "never"`` closes them all, whatever else is configured.
    """
    if config.privacy.raw_media == "never":
        return False
    match outlet:
        case Outlet.DASHBOARD:
            return config.dashboard.shows_pictures
        case Outlet.RECORD | Outlet.SEND | Outlet.VIEW:
            return True
        case _ as never:
            assert_never(never)


def unlawful(config: Config) -> list[str]:
    """What forbids a run: no purpose, or a place where emotions must not be inferred; one line a fault."""
    privacy, faults = config.privacy, []
    if privacy.purpose is None:
        faults.append(
            "privacy.purpose: is missing; inferring emotions needs a stated purpose, which is published with what is"
            ' inferred: write [privacy] purpose = "…" in your own words, such as "demonstration"'
        )
    if privacy.place in PROHIBITED and privacy.exemption is None:
        faults.append(
            f"privacy.place: found {privacy.place!r}, where inferring emotions is prohibited in the European Union but"
            " for medical and safety reasons (AI Act, Art. 5(1)(f)); where you are exempt, say why:"
            f' [privacy] exemption = "…", which is published; see {NOTICE}'
        )
    return faults


def require_lawful(config: Config, *, said_in: Path) -> None:
    """Raise `ConfigError`, which names the file, where anything is `unlawful`; an exemption is said loudly."""
    if faults := unlawful(config):
        raise ConfigError(str(said_in), faults)
    if config.privacy.place in PROHIBITED:
        log.warning(
            "emotions are inferred where that is prohibited in the European Union (place: %s); the reason given: %s",
            *(config.privacy.place, config.privacy.exemption),
        )


def for_demonstration(config: Config) -> Config:
    """The config with a purpose, where it states none: the bundled session shows nobody who would have to be asked."""
    privacy = config.privacy.model_copy(update={"purpose": config.privacy.purpose or "demonstration"})
    return config.model_copy(update={"privacy": privacy})


def remind(config: Config, root: Path, *, demo: bool = False) -> None:
    """Say what emotions are inferred for, whether pictures can be seen, and where the notice to put up is."""
    seen = config.dashboard.wanted(demo=demo) and may_leave(config, Outlet.DASHBOARD)
    where = "on the dashboard alone" if seen else "nowhere outside this process"
    log.info("emotions are inferred for the purpose: %s; pictures are shown %s", config.privacy.purpose, where)
    if "privacy" not in config.model_fields_set:
        log.warning('the config has no [privacy]: if this is no demonstration, write what it is for: purpose = "…"')
    log.info("those concerned have to be told; a notice to put up, in English and Chinese: %s", root / NOTICE)
