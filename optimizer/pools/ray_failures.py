"""Interpretation of the errors of Ray actors: why a worker is lost, and whether its job may be the cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergesmith.errors import UserError

from .ray_workers import WorkerHandle
from .worker import DeviceLostError

DEATH_PREFIXES = ("The actor is dead because ", "The actor died because ")
PING_WAIT_S = 1.0  # for the last reply of a dead worker, which may still be on its way


@dataclass(frozen=True)
class WorkerLoss:
    """The reason why a worker is lost; `innocent` means that its job cannot be the cause."""

    reason: str
    innocent: bool = False


def loss_from(ray: Any, handle: WorkerHandle, error: Exception) -> WorkerLoss:
    """Return the loss of a worker whose remote call raised `error`.

    Raises:
        RayTaskError: the error is a bug. Errors of a candidate do not get here: the worker reports them as `Failed`.
    """
    if not isinstance(error, ray.exceptions.RayTaskError):
        return connection_loss(ray, error)
    cause = getattr(error, "cause", error)
    if handle.facts is None:  # it could not open the sources: its GPU is in use, or a file is missing on its node
        first_line = str(cause).partition("\n")[0]
        return WorkerLoss(str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {first_line}")
    if not isinstance(cause, (UserError, DeviceLostError)):
        raise error
    return WorkerLoss(str(cause), innocent=isinstance(cause, UserError))


def connection_loss(ray: Any, error: Exception) -> WorkerLoss:
    """Return the loss of a worker whose connection broke.

    Ray notices at once that a process has died. If it reports the actor as unavailable, the node or the network failed;
    Ray declares a node dead about ten seconds later.
    """
    return WorkerLoss(death_reason(error), innocent=isinstance(error, ray.exceptions.ActorUnavailableError))


def death_reason(error: Exception) -> str:
    """Return the reason in Ray's message about a dead actor, on one line."""
    lines = [line.strip().partition(" Some common causes")[0] for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    reason = next((line for line in lines if line.startswith(DEATH_PREFIXES)), first)
    for prefix in DEATH_PREFIXES:
        reason = reason.removeprefix(prefix)
    return reason.replace(" Worker exit type:", "").replace(" Worker exit detail:", ":")


def job_is_innocent(ray: Any, handle: WorkerHandle, reason: str) -> bool:
    """Return whether the job cannot be the cause of a loss: it had not reached the worker, or the node left."""
    return not _received_job(ray, handle) or _node_left(ray, handle, reason)


def _received_job(ray: Any, handle: WorkerHandle) -> bool:
    if handle.ping is None:
        return False
    done, _ = ray.wait([handle.ping], timeout=PING_WAIT_S)
    try:
        return bool(done) and ray.get(done[0]) is None
    except ray.exceptions.RayError:
        return False


def _node_left(ray: Any, handle: WorkerHandle, reason: str) -> bool:
    if handle.facts is None or "node has died" in reason or "node was" in reason:
        return True
    return not any(node["NodeID"] == handle.facts.node and node["Alive"] for node in ray.nodes())
