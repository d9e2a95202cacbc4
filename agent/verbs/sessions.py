"""``sessions``: which recordings there are, what is in them, and what others can open."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.clock import SECOND, rfc3339
from agent.config import Config
from agent.process import DONE, FAILED, WRONG
from agent.recording.format import DECISION, PartSurvey
from agent.seams import SensorError
from agent.verbs import Parts, Recorded

MIB = 1 << 20


def sessions(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """List recordings, say what is in them, or export them."""
    if args.action == "list":
        return _list([Path(name) for name in args.sessions] or [config.record.out], parts=parts, out=out)
    if not args.sessions:
        print(f"sessions {args.action}: name a session; `sessions list` shows those there are", file=sys.stderr)
        return WRONG
    try:
        found = [parts.session(name) for name in args.sessions]
        if args.action == "info":
            for name, session in zip(args.sessions, found, strict=True):
                _info(name, session, out=out)
            return DONE
        return _export(found, args, out=out)
    except SensorError as error:
        print(error, file=sys.stderr)
        return FAILED


def _list(folders: list[Path], *, parts: Parts, out: Console) -> int:
    """One line a session; those that cannot be read say why."""
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        print(f"there is no folder {missing[0]}; `launch.py record` makes recordings", file=sys.stderr)
        return WRONG
    table = Table("session", "begins", "lasts", "size")
    for path in (path for folder in folders for path in _below(folder)):
        size = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
        try:
            session = parts.session(str(path))
        except SensorError as error:
            table.add_row(escape(str(path)), escape(str(error)), "", f"{size / MIB:.1f} MiB")
            continue
        begins = rfc3339(session.start_wall_ns) if session.start_wall_ns else "not told"
        table.add_row(escape(str(path)), begins, _lasts(session), f"{size / MIB:.1f} MiB")
    out.print(table)
    return DONE


def _below(folder: Path) -> Iterator[Path]:
    """The folder's folders that may be sessions, or itself if it is one."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.iterdir()))
    yield from folders or [folder]


def _lasts(session: Recorded) -> str:
    minutes, seconds = divmod(session.duration_ns / SECOND, 60)
    return f"{minutes:.0f} min {seconds:.1f} s"


def _info(name: str, session: Recorded, *, out: Console) -> None:
    """Everything that is known of a session; reads all of it."""
    lines = [f"[bold]{escape(name)}[/]: {session.name}, lasts {_lasts(session)}"]
    if session.start_wall_ns:
        lines.append(f"begins {rfc3339(session.start_wall_ns)}")
    lines.append("sources: " + ", ".join(f"{source.name} ({source.modality})" for source in session.sources))
    if session.history is not None:
        about, surveys = session.history.about, session.history.survey()
        lines.append(
            f"node {about.node}; " + ", ".join(f"{name} {version}" for name, version in about.versions.items())
        )
        if not about.whole:
            lines.append(
                "begins while the agent ran: what encoders and smoothing remembered then is not in it, so that the"
                " first decisions of a replay may differ"
            )
        lines += [_part_line(survey) for survey in surveys]
        counts = sum((Counter(survey.messages) for survey in surveys), Counter[str]())
        lines.append("messages: " + ", ".join(f"{n} {topic}" for topic, n in sorted(counts.items()) if n))
        if lost := sum(survey.lost for survey in surveys):
            lines.append(f"left out while recording: {lost} samples, for want of room in {escape('[record] buffer')}")
        if reloads := sum(survey.reloads for survey in surveys):
            lines.append(
                f"the config was reloaded {reloads} times while it was recorded: a replay goes by one config, so that"
                " its decisions may differ after that"
            )
        if not counts[DECISION]:
            lines.append("nothing was decided in it")
    for line in lines:
        out.print(line, soft_wrap=True)


def _part_line(survey: PartSurvey) -> str:
    whole = "whole"
    if survey.cut_off_at is not None:
        whole = f"cut off, as by a power cut: {survey.cut_off_at} of {survey.nbytes} bytes can be read"
    return escape(f"{survey.path.name}: {survey.nbytes / MIB:.1f} MiB, {whole}")


def _export(found: list[Recorded], args: argparse.Namespace, *, out: Console) -> int:
    """Write one session as files that other programs open."""
    if len(found) != 1 or not (args.out or args.parquet):
        print("sessions export: one session, and --out DIR or --parquet FILE or both", file=sys.stderr)
        return WRONG
    from agent.recording import export

    try:
        if args.out:
            written = export.to_folder(found[0], args.out)
            out.print(f"{args.out}: {', '.join(written)}", markup=False, soft_wrap=True)
        if args.parquet:
            rows = export.to_parquet(found[0], args.parquet)
            out.print(f"{args.parquet}: {rows} decisions", markup=False, soft_wrap=True)
    except ImportError as error:
        print(f"sessions export: {error}; install the extra: pip install 'attune[media]'", file=sys.stderr)
        return FAILED
    except (OSError, ValueError) as error:
        print(f"sessions export: {error}", file=sys.stderr)
        return FAILED
    return DONE
