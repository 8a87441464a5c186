"""The time that calls of Ray cost the driver of many workers."""

from __future__ import annotations

import time
from unittest import mock

import numpy as np
from scale_out_run import MODELS, ROOT

from mergesmith.evaluators import BlockScores, ItemScores
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.config import parse_config
from mergesmith.optimizer.pools import BlockDone, Event, Job, ray_workers
from mergesmith.optimizer.pools.ray_actor import WorkerFacts
from mergesmith.optimizer.pools.ray_pool import RayPool
from mergesmith.optimizer.pools.ray_workers import WorkerHandle
from mergesmith.optimizer.session.options import Options

PROCESSES = 2  # that answer for all workers
EVENTS = 3000  # that are timed; the cost of one is their mean
ITEMS = 142  # per block: 1,984 items in 14 blocks


class InstantWorkers:
    """An actor in the place of many workers: it answers every call at once, with made-up scores of a block.

    Its methods are asynchronous, so that Ray lets it take hundreds of calls at a time.
    """

    async def open(self, *_: object) -> WorkerFacts:
        import ray

        ids = tuple(map(str, range(ITEMS)))
        self.items = {"first": ItemScores(ids, np.zeros(ITEMS))}
        return WorkerFacts(ray.get_runtime_context().get_node_id(), "here", 0, (), "cpu", {}, {})

    async def ping(self) -> None: ...

    async def begin(self, job: Job) -> tuple[Event, ...]:
        return (BlockDone(job.number, BlockScores("search", 0, self.items, 0.0), 0.0),)


def seconds_per_event(workers: int) -> float:
    """Return the seconds that the pool on Ray costs the driver per event, with `workers` workers that answer at once.

    The pool is the product's; its workers share two processes. A new job is given out after each block, which is one
    more call than for an answer.
    """
    document = {
        "base_model": "./base",
        "models": [f"./{name}" for name in MODELS],
        "tasks": ["first"],
        "workers": {"pool": "ray", "count": PROCESSES, "gpus_per_worker": 0},
    }
    config = parse_config(document, where="search.yaml")
    with mock.patch.object(ray_workers, "RayWorker", InstantWorkers):
        pool = RayPool(config, ROOT, Options(), note=lambda *_, **__: None, announce=print)
    try:
        while pool.free < PROCESSES:
            pool.next_event()
        first = pool.workers.handles
        pool.workers.handles = [
            WorkerHandle(f"w{i}", first[i % PROCESSES].actor, first[0].facts) for i in range(workers)
        ]
        return _seconds_per_event(pool, workers)
    finally:
        pool.close()


def _seconds_per_event(pool: RayPool, workers: int) -> float:
    recipe = Recipe("linear", models=(Source("./a"),))
    begun = done = 0
    start = 0.0
    while done < workers + EVENTS:
        while pool.free:
            pool.submit(Job(begun, recipe, "search"))
            begun += 1
        event = pool.next_event()
        if event is None:
            continue
        handle = pool.workers.with_job(event.number)
        assert handle is not None, "Should not reach."
        handle.end_job()
        _ = pool.worker_counts  # which a search shows
        done += 1
        if done == workers:  # all are at work
            start = time.perf_counter()
    return (time.perf_counter() - start) / EVENTS
