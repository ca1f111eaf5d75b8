"""Many runs at once, each in a process, with a bar on stderr; and what earlier ones gave, where a folder is named."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from evaluation.claims import Job, Run
from evaluation.laboratory import perform
from utxoiq.errors import InputRefused
from utxoiq.simulation.regimes import REGIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

HOME = Path(__file__).parent
PACKAGE = HOME.parent / "src" / "utxoiq"
OF_THE_LABORATORY = ("claims.py", "laboratory.py", "baseline.py")
CALIBRATION = "calibration.json"
SHOWS = ("demo",)
"""Regimes made to be looked at: not among all, but scored where they are named."""


def jobs_of(
    seeds: Sequence[int], regimes: Sequence[str], blocks: int, *, calibrated: bool = True, in_turn: bool = False
) -> list[Job]:
    """Every seed in every regime, or `in_turn` each in one; `all` stands for all regimes. Raises InputRefused for a
    regime there is not."""
    wanted = [name for name in REGIMES if name not in SHOWS] if "all" in regimes else list(regimes)
    unknown = [name for name in wanted if name not in REGIMES]
    if unknown:
        raise InputRefused(f"no such regime: {unknown[0]}; there are all, {', '.join(REGIMES)}")
    if in_turn:
        return [Job(regime, seed, blocks, calibrated) for seed, regime in zip(seeds, cycle(wanted), strict=False)]
    return [Job(regime, seed, blocks, calibrated) for regime in wanted for seed in seeds]


def perform_all(jobs: Sequence[Job], workers: int, cache: Path | None = None) -> list[Run]:
    """The runs of these jobs, in their order. Raises UtxoiqError where one fails."""
    versions = {calibrated: code_version(calibrated=calibrated) for calibrated in {job.calibrated for job in jobs}}
    one = partial(cached, cache, versions) if cache else perform
    console = Console(stderr=True)
    with _mapping(min(workers, len(jobs))) as mapped:
        return list(track(mapped(one, jobs), "runs", len(jobs), console=console, disable=not console.is_terminal))


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[[Callable[[Job], Run], Sequence[Job]], Iterable[Run]]]:
    """`map`, in so many processes; in this one where one is enough."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def cached(folder: Path, versions: Mapping[bool, str], job: Job) -> Run:
    """The run that the same code gave of this job before, else a new one, which is kept where the code is still that.

    `versions`: of the code, by whether a job is calibrated.
    """
    version = versions[job.calibrated]
    name = "-".join(map(str, job[:3])) + ("" if job.calibrated else "-raw")
    file = folder / f"{name}-{version}.json"
    if file.exists():
        return Run.from_text(file.read_text("utf-8"))
    run = perform(job)
    if code_version(calibrated=job.calibrated) == version:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(run.as_text(), "utf-8")
        unfinished.rename(file)
    return run


def code_version(*, calibrated: bool) -> str:
    """Of all that a run's figures depend on: a stale one is never taken for it."""
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    files += [HOME / name for name in OF_THE_LABORATORY]
    read = [path for path in files if calibrated or path.name != CALIBRATION]
    whole = sha256()
    for path in read:
        whole.update(f"{path.name} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]
