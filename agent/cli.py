"""The words of the command line: verbs and their options. What a verb does is told by who calls `parser`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from agent.config import Config
from agent.config.scalars import parse_duration
from agent.types import Modality

Verb = Callable[[Config, argparse.Namespace], int]
"""Takes the config and what was asked, returns the exit code; its docstring is its help."""


def parser(
    verbs: Mapping[str, Verb], *, default: str, description: str | None, config: Path
) -> argparse.ArgumentParser:
    """What reads the command line into ``verb`` (one of `verbs`), ``config``, ``set``, ``set_after``, ``log_level``
    and the verb's own options.

    `default` is the verb where none is named, and `config` the path where none is given.
    """
    found = argparse.ArgumentParser(prog="launch.py", description=description, parents=[_everywhere("set")])
    found.set_defaults(verb=verbs[default], config=config, set=[], set_after=[], log_level=None)
    common = _everywhere("set_after")
    group = found.add_subparsers(title="verbs", metavar="VERB")
    for name, verb in verbs.items():
        added = group.add_parser(name, help=verb.__doc__, description=verb.__doc__, parents=[common])
        added.set_defaults(verb=verb)
        if name in _OPTIONS:
            _OPTIONS[name](added)
    return found


def _everywhere(overrides: str) -> argparse.ArgumentParser:
    """The options that may stand before the verb and after it.

    They have no defaults, since a verb's would undo what stands before it; for the same reason the overrides of both
    places are two lists, of which this is the name.
    """
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("--config", type=Path, metavar="FILE", help="the config's path")
    options.add_argument(
        "--set", action="append", dest=overrides, metavar="TABLE.KEY=VALUE", help="override the config"
    )
    options.add_argument(
        "--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="goes before [agent] log_level"
    )
    return options


def _demo(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--once", action="store_true", help="end with the session instead of looping")


def _models(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("action", nargs="?", default="list", choices=("list", "fetch", "build"))
    verb.add_argument("names", nargs="*", metavar="NAME", help="what to fetch or build; default: what encoders need")
    verb.add_argument("--calibrate", metavar="SESSION", help="build: fit int8 to this session; a path, or demo")


def _bench(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("what", choices=("engines",), help="engines: each network on each back end of this machine")
    verb.add_argument("names", nargs="*", metavar="NAME", help="models; default: all that the encoders place")
    verb.add_argument("--threads", type=_count, default=1, metavar="N", help="of ONNX Runtime; 1 is the agent's")
    verb.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON")


def _record(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--out", type=Path, metavar="DIR", help="where recordings go; default: [record] out")
    verb.add_argument(
        "--for", type=_duration, dest="duration", metavar="DURATION", help="stop after that time, such as 10min"
    )


def _replay(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("sessions", nargs="*", metavar="SESSION", help='a recording, a folder or file, or "demo"')
    verb.add_argument("--speed", type=_speed, default=None, help='factor, 1 is real time; "max" is the default')
    verb.add_argument("--out", type=Path, metavar="FILE", help="decisions as JSON lines; - is standard output")
    verb.add_argument("--events", type=Path, metavar="FILE", help="events as JSON lines")
    verb.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="all sessions at once on a Ray cluster, by default of this machine's cores; --out is a folder then",
    )
    verb.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="where the decisions of two --out files differ"
    )
    verb.add_argument("--plot", type=Path, metavar="FILE", help="with --compare: both as a picture (.png, .svg, .pdf)")


def _plot(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("session", metavar="SESSION", help='a recording, a folder, "demo", or the --out of a replay')
    verb.add_argument("--out", type=Path, metavar="FILE", help="a .png, .svg or .pdf; default: its name and .png")


def _eval(verb: argparse.ArgumentParser) -> None:
    modalities = "|".join(Modality)
    verb.add_argument("what", choices=(*Modality, "fusion"), help="the encoder to measure, or the fusion of all")
    verb.add_argument(
        "--data", action="append", default=[], metavar="DIR", help=f"folder with a labels.csv; fusion: {modalities}=DIR"
    )
    verb.add_argument(
        "--split", action="append", default=[], metavar="NAME", help="its items only; fusion: MODALITY=NAME"
    )
    verb.add_argument(
        "--map", type=_renamed, default={}, metavar="FROM=TO,…", help="the agent's names for labels; FROM= leaves out"
    )
    verb.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON")
    fusion = verb.add_argument_group("of fusion")
    fusion.add_argument("--work", type=Path, metavar="DIR", help="keeps what the encoders said for the next time")
    fusion.add_argument("--items", type=_count, default=100, metavar="N", help="taken of each label and modality")
    fusion.add_argument("--triples", type=_count, default=200, metavar="N", help="drawn of each label")
    fusion.add_argument("--chart", type=Path, metavar="FILE", help="the curves as SVG")


def _send(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--node", required=True, help="the agent that listens, by the name in its topics")
    verb.add_argument(
        "--to",
        action="append",
        dest="set_after",
        default=argparse.SUPPRESS,
        type="mqtt.broker={}".format,
        metavar="BROKER",
        help="its broker, as mqtt://HOST[:PORT]; short for --set mqtt.broker=BROKER",
    )
    verb.add_argument("--quality", type=_quality, default=80, help="of pictures as JPEG: 1..100, 80 is the default")
    verb.add_argument("--fps", type=_fps, help="pictures a second at most; default: as many as there are")


def _sessions(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("action", choices=("list", "info", "export"))
    verb.add_argument("sessions", nargs="*", metavar="SESSION", help="list: folders; default: [record] out")
    verb.add_argument("--out", type=Path, metavar="DIR", help="export: a new folder with video, sound and lines")
    verb.add_argument("--parquet", type=Path, metavar="FILE", help="export: the decisions as a table")


_OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "bench": _bench,
    "demo": _demo,
    "eval": _eval,
    "models": _models,
    "record": _record,
    "plot": _plot,
    "replay": _replay,
    "send": _send,
    "sessions": _sessions,
}
"""By verb, what adds its own options; a verb that has none is not in it."""


def _count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number above 0; found {text!r}")


def _renamed(text: str) -> dict[str, str]:
    """``from=to,…`` as a mapping."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    found = {name.strip(): to.strip() for name, _, to in pairs}
    if not pairs or len(found) < len(pairs) or not all(name.strip() and sign for name, sign, _ in pairs):
        raise argparse.ArgumentTypeError(f"must be from=to,… with each label named once; found {text!r}")
    return found


def _quality(text: str) -> int:
    with suppress(ValueError):
        if 1 <= (quality := int(text)) <= 100:
            return quality
    raise argparse.ArgumentTypeError(f"must be from 1 to 100; found {text!r}")


def _fps(text: str) -> float:
    with suppress(ValueError):
        if 0.01 <= (fps := float(text)) <= 1000:
            return fps
    raise argparse.ArgumentTypeError(f"must be from 0.01 to 1000; found {text!r}")


def _duration(text: str) -> int:
    """In ns, as it is written in the config."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float | None:
    """``max`` as None, else a factor."""
    if text == "max":
        return None
    with suppress(ValueError):
        if 1e-3 <= (factor := float(text)) < math.inf:
            return factor
    raise argparse.ArgumentTypeError(f'must be "max" or a factor from 0.001, such as 1 or 0.5; found {text!r}')
