"""Ray: the cluster that workers run on, started on this machine or joined."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mergesmith.errors import UserError

from ..config import WorkersSection
from ..stop import EXIT_CODES, StoppedError, handle_signals

PATIENCE = 5.0  # seconds that the head of a cluster is given to answer
LOOPBACK = ("127.0.0.1", "::1")


def connect(workers: WorkersSection) -> Any:
    """The module `ray`, connected: to `workers.address`, or to a cluster of its own on this machine.

    One of its own listens on loopback only, has no dashboard, and ends with this process. Nothing is reported to Ray's
    makers in either case.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
        StoppedError: a signal came meanwhile.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")  # the run says it in fewer words
    own = workers.address is None
    if own:  # Ray's switch for machines without clusters, which it reads when imported: it binds to loopback
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise UserError("workers.pool: ray needs Ray; install it with: pip install 'mergesmith[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if own:
        options |= {"address": "local", "include_dashboard": False, "num_cpus": _cpus(workers)}
    else:
        options |= {"address": workers.address}
        _raise_unless_reachable(workers.address or "")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with _deaf_to_sigterm():
            ray.init(**options)
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        raise StoppedError(EXIT_CODES[signal.SIGTERM]) from None  # Ray's own handler was in place already
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(_no_cluster(workers.address, str(error).strip().partition("\n")[0])) from None
    if own and (found := ray.nodes()[0]["NodeManagerAddress"]) not in LOOPBACK:
        ray.shutdown()
        raise UserError(f"Ray would listen on {found}, not on loopback only; use ray 2.60, or start a cluster yourself")
    return ray


def workers_that_fit(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs a node with these resources holds; no GPU is shared out in pieces."""
    by_cpu = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return by_cpu
    here = int(resources.get("GPU", 0))
    return min(by_cpu, here // int(gpus) if gpus >= 1 else here * int(1 / gpus + 1e-9))


def _raise_unless_reachable(address: str) -> None:
    """Ray itself ends this process where nobody answers, after a minute."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise UserError(_no_cluster(address, error.strerror or str(error))) from None


def _no_cluster(address: str | None, reason: str) -> str:
    return (
        f"workers.address: no Ray cluster at '{address}': {reason}; start mergesmith on a machine that `ray start` has "
        "joined to it, or leave address out for a cluster of its own on this machine"
    )


@contextmanager
def _deaf_to_sigterm() -> Iterator[None]:
    """Processes started inside ignore SIGTERM for good, as Ray's do SIGINT.

    Batch systems send it to a job's whole process group, and candidates in flight are to be finished then: Ray has to
    outlive the signal, and goes with this process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        handle_signals()  # Ray has set its own for SIGTERM; one that came meanwhile is ours
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _cpus(workers: WorkersSection) -> int | None:
    """Cores that a cluster of its own should have: the machine's, and more where so many workers are asked for."""
    wanted = (workers.count or 0) * workers.cpus_per_worker
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(wanted, here)
