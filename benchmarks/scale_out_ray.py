"""What the calls of Ray cost the driver of many workers."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from scale_out_run import MODELS, ROOT

from mergesmith.evaluators import BlockScores, ItemScores
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.config import parse_config
from mergesmith.optimizer.pools import BlockDone, Event, Job
from mergesmith.optimizer.pools.deadline import Deadline
from mergesmith.optimizer.pools.ray_actor import WorkerFacts
from mergesmith.optimizer.pools.ray_cluster import connect
from mergesmith.optimizer.pools.ray_crew import Crew, Hand
from mergesmith.optimizer.pools.ray_pool import RayPool
from mergesmith.optimizer.session import Options

PROCESSES = 2  # that stand for all workers
EVENTS = 3000  # over which the cost of one is measured
ITEMS = 142  # of a block: 1,984 items in 14 blocks


class InstantWorkers:
    """An actor that stands for many workers: it answers every call with the scores of a block, at once."""

    def __init__(self) -> None:
        ids = tuple(map(str, range(ITEMS)))
        self.items = {"first": ItemScores(ids, np.zeros(ITEMS))}

    async def received(self) -> None: ...

    async def begin(self, job: Job) -> tuple[Event, ...]:
        return (BlockDone(job.number, BlockScores("search", 0, self.items, 0.0), 0.0),)


def seconds_per_event(workers: int) -> float:
    """Seconds that the pool on Ray costs the driver for each event of so many workers that all answer at once.

    The pool is the product's; its workers share two processes. A new job is given out after each block, which is one
    more call than for an answer.
    """
    document = {
        "base_model": "./base",
        "models": [f"./{name}" for name in MODELS],
        "tasks": ["first"],
        "workers": {"pool": "ray", "count": workers, "gpus_per_worker": 0},
    }
    config = parse_config(document, where="search.yaml")
    few = config.workers.model_copy(update={"count": PROCESSES})
    pool: Any = object.__new__(RayPool)
    pool.ray, pool.says = connect(few), print
    pool.crew = Crew(pool.ray, config, ROOT, Options(), note=lambda *_, **__: None)
    pool.deadline = Deadline(None)
    pool._events, pool._arrived, pool._reminded = deque(), deque(), time.monotonic()
    kind: Any = pool.ray.remote(InstantWorkers)
    actors = [kind.options(num_cpus=1, max_concurrency=workers).remote() for _ in range(PROCESSES)]
    node = pool.ray.get_runtime_context().get_node_id()
    facts = WorkerFacts(node, "here", 0, (), "cpu", {}, {})
    pool.crew.hands = [Hand(f"w{i}", actors[i % PROCESSES], None, facts) for i in range(workers)]
    recipe, numbers = Recipe("linear", models=(Source("./a"),)), iter(range(10**9))
    start, done = 0.0, 0
    try:
        while done < workers + EVENTS:
            while pool.free:
                pool.submit(Job(next(numbers), recipe, "search"))
            event = pool.next_event()
            if event is None:
                continue
            hand = pool.crew.at(event.number)
            hand.job = hand.received = None
            _ = pool.workers  # which a search shows
            done += 1
            if done == workers:
                start = time.perf_counter()
        return (time.perf_counter() - start) / EVENTS
    finally:
        pool.crew.hands.clear()
        pool.ray.shutdown()
