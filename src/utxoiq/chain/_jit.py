"""How kernels are compiled: explicit signatures, no GIL, cached on disk under a digest of their own sources.

Numba's cache knows a kernel by its own file only, so a changed helper in another file would leave stale machine
code behind; the digest over all kernel sources in the directory name rules that out. Where nothing can be written
the kernels are compiled anew in each process and one warning says so.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import config
from numba import types as nt
from numba.core.registry import cpu_target

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

BYTES = nt.Array(nt.uint8, 1, "C", readonly=True)
U8, U32, U64, I32, I64 = nt.uint8[::1], nt.uint32[::1], nt.uint64[::1], nt.int32[::1], nt.int64[::1]

helper = numba.njit(**OPTIONS)
"""Decorator of a function that only kernels call: compiled into them."""


def has_sha_ni() -> bool:
    """Whether Numba will generate code for x86 SHA instructions. LLVM aborts the process when told to emit an
    instruction the target lacks, so this asks what Numba compiles *for*, not what the processor could do."""
    triple, _cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.startswith("x86_64") and "+sha" in features.split(",")


@cache
def _cache_dir() -> Path | None:
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parents[1].glob("*/_[!_]*.py")):
        digest.update(source.read_bytes())
    folder = Path(base) / f"utxoiq-kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        _warn_uncached(error)
        return None
    return folder


@cache
def _warn_uncached(error: OSError) -> None:
    warnings.warn(
        f"no cache for compiled kernels ({error}): each start compiles for some seconds; "
        "set NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=2,
    )


def kernel(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile now, for exactly these signatures, from the disk cache where there is one."""

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        folder = _cache_dir()
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder or "")
        try:
            return numba.njit(list(signatures), cache=folder is not None, **OPTIONS)(function)
        except OSError as error:  # the disk filled up while the machine code was being saved
            _warn_uncached(OSError(error.errno, error.strerror))
            return numba.njit(list(signatures), **OPTIONS)(function)
        finally:
            config.CACHE_DIR = before

    return compile_now
