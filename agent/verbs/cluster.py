"""``replay SESSION… --ray``: many sessions at once, on the machines of a Ray cluster, each into a Parquet file."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.metadata
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agent.clock import SECOND
from agent.config import Config, ConfigError
from agent.process import DONE, FAILED, WRONG
from agent.replay import replayed
from agent.verbs import Parts, Recorded

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

HERE = "local"
"""Of ``--ray``: a cluster of this machine's cores, for as long as the verb runs."""


@dataclass(frozen=True, slots=True)
class Job:
    """One session to be played."""

    session: str
    """Path, absolute, which every machine of the cluster must see; or ``demo``."""
    out: Path
    """The Parquet file that comes of it."""
    key: str
    """Tells apart everything that decides what comes of it: session, config, version."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    job: Job
    decisions: int = 0
    played_s: float = 0.0
    """Length of the session."""
    took_s: float = 0.0
    problem: str = ""
    """Why there is no file; empty where there is one."""


def replay_many(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Play the sessions that have no result yet; one that fails is told of and holds up no other."""
    try:
        import pyarrow  # noqa: F401
        import ray  # noqa: F401
    except ImportError as error:
        print(f"replay --ray: {error.name} is not installed; pip install 'attune[cluster]'", file=sys.stderr)
        return WRONG
    try:
        jobs = plan(config, args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG
    from agent.recording.table import told_of

    todo = [job for job in jobs if told_of(job.out).get("key") != job.key]
    if done := len(jobs) - len(todo):
        out.print(f"{done} of {len(jobs)} sessions have been played before; --out {args.out} has their decisions")
    begin_s = time.monotonic()
    outcomes = []
    for outcome in run_on_ray(todo, config, parts=parts, address=args.ray):
        outcomes.append(outcome)
        out.print(_line(outcome, len(outcomes), len(todo)), markup=False, soft_wrap=True)
    took_s, played_s = time.monotonic() - begin_s, sum(outcome.played_s for outcome in outcomes)
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    out.print(
        f"{len(outcomes) - failed} played, {failed} failed; {played_s:.0f} s of sessions in {took_s:.1f} s,"
        f" {played_s / took_s if took_s else 0:.1f} times as fast as they were"
    )
    return FAILED if failed else DONE


def plan(config: Config, args: argparse.Namespace) -> list[Job]:
    """A job for each session; raises `ConfigError` with all that is wrong with what was asked."""
    faults = []
    if problem := _unreachable(args.ray):
        faults.append(f"--ray {args.ray}: {problem}; is `ray start --head` running there?")
    if args.out is None or args.out == Path("-") or args.out.is_file():
        faults.append("--out DIR: a folder for one Parquet file a session is needed with --ray")
    if args.speed is not None:
        faults.append("--speed: on a cluster sessions are played as fast as they can be; leave it out")
    names = Counter(Path(name).resolve().stem if name != "demo" else name for name in args.sessions)
    faults += [
        f"{n} sessions are called {name}: play them into folders of their own" for name, n in names.items() if n > 1
    ]
    faults += [f"{name}: no such session" for name in args.sessions if name != "demo" and not Path(name).exists()]
    if faults:
        raise ConfigError("replay --ray", faults)
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = []
    for name in args.sessions:
        path = Path(name).resolve()
        session = name if name == "demo" else str(path)
        stem = name if name == "demo" else path.stem
        jobs.append(Job(session, args.out.resolve() / f"{stem}.parquet", _key(session, config)))
    return jobs


def run_on_ray(
    jobs: Sequence[Job], config: Config, *, parts: Parts, address: str, cores: int | None = None
) -> Iterator[Outcome]:
    """The outcomes in the order in which they come; a machine that is lost is replaced once.

    ``cores`` bounds a cluster that is brought up here; None takes all.
    """
    import ray

    if not jobs:
        return
    asked = {"num_cpus": cores, "include_dashboard": False} if address == HERE else {"address": address}
    ray.init(**asked, log_to_driver=False, logging_level="ERROR")
    try:
        task = ray.remote(num_cpus=1, max_retries=1)(play_into)
        shared = ray.put((_public(config), parts))
        waiting = {task.remote(job, shared): job for job in jobs}
        while waiting:
            (reference,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayError as error:  # a bug in what was played, or a machine that went away
                yield Outcome(job, problem=f"the worker broke: {error}")
    finally:
        ray.shutdown()


def play_into(job: Job, shared: tuple[Config, Parts]) -> Outcome:
    """Play one session and write its file. What may go wrong with sessions and models is told in the outcome."""
    from agent.recording.table import decisions_table, write_parquet

    config, parts = shared
    begin_s = time.monotonic()
    expected: tuple[type[Exception], ...] = (ConfigError, OSError, *parts.failures())
    try:
        session = parts.session(job.session)
        payloads = asyncio.run(_payloads(session, config, parts))
        about = {"key": job.key, "session": job.session, "version": importlib.metadata.version("attune")}
        write_parquet(decisions_table(payloads), job.out, about)
    except expected as error:
        return Outcome(job, problem=str(error))
    return Outcome(job, len(payloads), session.duration_ns / SECOND, time.monotonic() - begin_s)


async def _payloads(session: Recorded, config: Config, parts: Parts) -> list[dict[str, Any]]:
    async with aclosing(replayed(session, config, parts=parts)) as decisions:
        return [played.payload async for played in decisions]


def _unreachable(address: str) -> str:
    """Why nobody answers at HOST:PORT; empty where somebody does, or it is another kind of address.

    Ray itself takes more than a minute to find out.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return ""


def _public(config: Config) -> Config:
    """What a replay needs: no broker's password goes over a cluster."""
    bare = Config()
    return bare.model_copy(
        update={name: getattr(config, name) for name in ("agent", "encoders", "align", "fusion", "models")}
    )


def _key(session: str, config: Config) -> str:
    parts = [importlib.metadata.version("attune"), _public(config).model_dump_json(), session]
    path = Path(session)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []:
        if file.is_file():
            stat = file.stat()
            parts.append(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _line(outcome: Outcome, number: int, of: int) -> str:
    head = f"[{number}/{of}] {outcome.job.session}:"
    if outcome.problem:
        return f"{head} failed: {outcome.problem}"
    speed = outcome.played_s / outcome.took_s if outcome.took_s else 0
    return f"{head} {outcome.decisions} decisions, {speed:.1f} times as fast as it was -> {outcome.job.out}"
