"""The connection to Ray: a new cluster on this machine, or an existing one."""

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
from ..stop_signals import EXIT_CODES, StoppedError, handle_signals

CONNECT_TIMEOUT_S = 5.0  # for the head of a cluster
LOOPBACK = ("127.0.0.1", "::1")


def connect(workers: WorkersSection) -> Any:
    """Return the module `ray`, connected to the cluster at `workers.address` or to a new cluster on this machine.

    A new cluster listens on loopback only, has no dashboard, and ends with this process. Ray's usage statistics are off
    in both cases.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
        StoppedError: SIGTERM arrived while connecting.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")  # the run reports it more briefly
    starts_cluster = workers.address is None
    if starts_cluster:  # makes Ray and the processes that it starts bind to loopback
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
        from ray._private import ray_constants
    except ImportError:
        raise UserError("workers.pool: ray needs Ray; install it with: pip install 'mergesmith[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if starts_cluster:
        ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported, perhaps long before
        options |= {"address": "local", "include_dashboard": False, "num_cpus": _cpus(workers)}
    else:
        options |= {"address": workers.address}
        _raise_unless_reachable(workers.address or "")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with _sigterm_blocked():
            ray.init(**options)
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        raise StoppedError(EXIT_CODES[signal.SIGTERM]) from None  # Ray's handler was already installed
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(_no_cluster(workers.address, str(error).strip().partition("\n")[0])) from None
    if starts_cluster and (found := ray.nodes()[0]["NodeManagerAddress"]) not in LOOPBACK:
        ray.shutdown()
        raise UserError(f"Ray would listen on {found}, not on loopback only; use ray 2.60, or start a cluster yourself")
    return ray


def workers_that_fit(resources: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Return how many workers with `cpus` CPUs and `gpus` GPUs each fit on a node.

    `gpus` below 1 shares each GPU among 1 / gpus workers; no worker gets pieces of several GPUs.
    """
    by_cpu = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return by_cpu
    here = int(resources.get("GPU", 0))
    return min(by_cpu, here // int(gpus) if gpus >= 1 else here * int(1 / gpus + 1e-9))


def _raise_unless_reachable(address: str) -> None:
    """Check the address first, because Ray ends this process after a minute without an answer."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(_no_cluster(address, error.strerror or str(error))) from None


def _no_cluster(address: str | None, reason: str) -> str:
    return (
        f"workers.address: no Ray cluster at '{address}': {reason}; start mergesmith on a machine that `ray start` has "
        "joined to it, or leave address out to start a cluster on this machine"
    )


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM inside, and in the processes started inside for as long as they live.

    Batch systems send SIGTERM to a job's whole process group. Ray has to survive it, so that candidates in flight can
    finish; it ends with this process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        handle_signals()  # replaces Ray's handler before a pending signal is delivered
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _cpus(workers: WorkersSection) -> int | None:
    """Return the CPUs of a new cluster: those of the machine, or more if the configured workers need more."""
    wanted = (workers.count or 0) * workers.cpus_per_worker
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(wanted, here)
