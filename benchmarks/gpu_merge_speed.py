"""How long a candidate takes on a GPU, beside its own copying speed: markdown tables, with the goals.

    PYTHONPATH=. python benchmarks/gpu_merge_speed.py [--parameters 7B] [--work /dev/shm/gpu-merge] [--only resident]

Needs torch, Triton, safetensors and transformers, with numpy and PyYAML, which these bring; from a checkout. A base and
three sources of random weights in bfloat16 are written to --work first: 54 GB for 7B, and what is there is kept.

* resident: all sources on the device. A candidate is `LiveModel.load`, timed by the wall clock until the device is
  done, each with other numbers; bandwidth counts one read of each input and one write. `host` is how much of it the
  host took to launch everything. Goals are shares of what `out.copy_(x)` reaches on the device, read and write counted.
* statistics: what the bank makes for TIES and for DARE, once per run, and the host's memory it takes.
* host: sources in page-locked memory of the host, of --host-parameters, since they are there twice.
* equality: every method on a small model on the CPU and on the GPU, and the masks alone.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from device_checkpoint import family
from merge_speed_cases import BASE, CASES, SOURCES, Case
from synthetic_checkpoint import llama, write_family

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, Residency, parse_recipe
from mergesmith.merge_ops.executors.dispatch import run
from mergesmith.merge_ops.executors.job import TensorJob
from mergesmith.merge_ops.methods import KeepLargest, KeepRandom, KeepRanked, KeepWindow, MaskedSum, SourceRule

SECTIONS = ("resident", "statistics", "host", "equality")
BANDWIDTH = {
    "linear": 0.85,
    "slerp": 0.85,
    "task_arithmetic": 0.85,
    "ties": 0.6,
    "breadcrumbs": 0.6,
    "dare_linear": 0.6,
}
TIMED = (*BANDWIDTH, "dare_ties", "della")
TIES_SECONDS, STATISTICS_SECONDS, STATISTICS_SHARE, HOST_SHARE = 0.040, 30.0, 0.05, 0.8
COPIED = 1 << 31  # elements of the tensors whose copying is measured


def main() -> None:
    """Measure the sections that are asked for, print them."""
    arguments = parse()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{name}, torch {torch.__version__}, {arguments.repeats} candidates per method, medians.", flush=True)
    if {"resident", "statistics"} & set(arguments.only):
        folder = family(arguments.work, arguments.parameters, device)
        resident(folder, device, arguments)
    if "host" in arguments.only:
        host(family(arguments.work, arguments.host_parameters, device), device, arguments)
    if "equality" in arguments.only:
        equality(arguments.work, device)


def resident(folder: Path, device: torch.device, arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    names = [str(folder / name) for name in (BASE, *SOURCES)]
    bank = ModelBank(names, device=device, residency=Residency(resident=True, keep_deltas=True))
    bank.load(lambda _nbytes: None)
    synchronize(device)
    seconds, nbytes = time.perf_counter() - start, source_bytes(bank)
    show(f"Sources: {nbytes / 1e9:.1f} GB, loaded in {seconds:.1f} s ({nbytes / seconds / 1e9:.1f} GB/s).")
    live = LiveModel(bank)
    other = recipe_of(Case("passthrough", models=(SOURCES[-1],), based=False), folder)
    live.load(other)
    if "statistics" in arguments.only:
        made(bank, live, folder, device, other)
    if "resident" not in arguments.only:
        return
    limit = copy_bandwidth(device, arguments.repeats)
    model = nbytes / (1 + len(SOURCES))
    show(f"Copying on the device: {limit / 1e9:.0f} GB/s, read and write counted.")
    show("| method | candidate, ms | host, ms | GB/s | of copying | goal |\n| --- | --- | --- | --- | --- | --- |")
    for method in TIMED:
        case = CASES[method]
        wall, launching = candidates(live, case, folder, device, arguments.repeats)
        reached = (len(case.models) + 1) * model / wall
        goal, share = BANDWIDTH.get(method), reached / limit
        goals = [] if goal is None else [marked(share >= goal, f"at least {100 * goal:.0f} %")]
        if method == "ties":
            goals.append(marked(wall < TIES_SECONDS, f"under {1e3 * TIES_SECONDS:.0f} ms for 7B"))
        print(
            f"| {method} | {1e3 * wall:.1f} | {1e3 * launching:.1f} | {reached / 1e9:.0f} | {100 * share:.0f} % | "
            f"{', '.join(goals)} |",
            flush=True,
        )


def made(bank: ModelBank, live: LiveModel, folder: Path, device: torch.device, other: Recipe) -> None:
    """Statistics: the first candidate of a method beside its second."""
    show("| statistics for | s | goal | of the sources' memory | goal |\n| --- | --- | --- | --- | --- |")
    for method in ("ties", "dare_linear", "slerp"):
        taken = device_memory(device)
        first = seconds_of(lambda method=method: live.load(recipe_of(CASES[method], folder)), device)
        live.load(other)
        second = seconds_of(lambda method=method: live.load(recipe_of(CASES[method].candidate(1), folder)), device)
        kept = sum(host_bytes(value) for value in bank._known.values()) + max(0, device_memory(device) - taken)
        share = kept / source_bytes(bank)
        print(
            f"| {method} | {first - second:.1f} | {marked(first - second < STATISTICS_SECONDS, 'under 30')} | "
            f"{100 * share:.2f} % | {marked(share < STATISTICS_SHARE, 'under 5 %')} |",
            flush=True,
        )


def host(folder: Path, device: torch.device, arguments: argparse.Namespace) -> None:
    names = [str(folder / name) for name in (BASE, *SOURCES)]
    bank = ModelBank(names, device=device, residency=Residency(pinned=device.type == "cuda", keep_deltas=True))
    bank.load(lambda _nbytes: None)
    live = LiveModel(bank)
    live.load(recipe_of(Case("passthrough", models=(SOURCES[-1],), based=False), folder))
    limit = upload_bandwidth(device, arguments.repeats)
    before = device_memory(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    show(f"Sources in the host's memory, {source_bytes(bank) / 1e9:.1f} GB; upload {limit / 1e9:.1f} GB/s.")
    show("| method | candidate, ms | GB/s read | of uploading | goal |\n| --- | --- | --- | --- | --- |")
    for method in ("linear", "task_arithmetic", "ties"):
        case = CASES[method]
        wall, _ = candidates(live, case, folder, device, arguments.repeats)
        read = len(case.models) / (1 + len(SOURCES)) * source_bytes(bank) / wall
        goal = marked(read >= HOST_SHARE * limit, "at least 80 %")
        print(f"| {method} | {1e3 * wall:.0f} | {read / 1e9:.1f} | {100 * read / limit:.0f} % | {goal} |", flush=True)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - before
        print(f"Memory of the device beside the live model: at most {peak / 2**20:.0f} MiB.", flush=True)


def equality(work: Path, device: torch.device) -> None:
    folder = work / "small"
    write_family(folder, llama(128, intermediate=352, layers=2, vocabulary=512))
    names = [str(folder / name) for name in (BASE, *SOURCES)]
    show(
        "| method | elements that differ between CPU and GPU | units in the last place, at most |\n| --- | --- | --- |"
    )
    for method, case in CASES.items():
        weights = []
        for place in (torch.device("cpu"), device):
            residency = Residency(resident=place.type != "cpu", keep_deltas=True)
            live = LiveModel(ModelBank(names, device=place, residency=residency))
            live.load(recipe_of(case, folder))
            weights.append(torch.cat([x.reshape(-1).cpu() for x in live.model.state_dict().values()]))
        apart = (in_order(weights[0]) - in_order(weights[1])).abs()
        most = int(apart.max())
        print(f"| {method} | {int((apart > 0).sum())} of {len(apart)} | {marked(most <= 1, str(most))} |", flush=True)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((300, 2000), generator=generator).bfloat16()
    for keep in (KeepLargest(0.3), KeepWindow(0.3, 0.02), KeepRandom(0.3), KeepRanked(0.5, 0.2)):
        masks = [kept(values.to(place), keep).cpu() for place in (torch.device("cpu"), device)]
        same = marked(torch.equal(*masks), "equal")
        print(f"Mask of {keep}: {int(masks[0].sum())} elements, {same} on CPU and GPU.", flush=True)


def kept(values: torch.Tensor, keep: KeepLargest | KeepWindow | KeepRandom | KeepRanked) -> torch.Tensor:
    """The mask of one task vector, seen in what is added to a base of zeros."""
    plan = MaskedSum((SourceRule(1.0, keep),))
    base, out = torch.zeros_like(values), torch.empty_like(values)
    run([TensorJob(plan, (base, values), out, 0, 1, "x", lambda _places, _key, make: make())])
    assert torch.equal(out[out != 0], values[out != 0])
    return out != 0


def in_order(values: torch.Tensor) -> torch.Tensor:
    """bfloat16 numbers as whole numbers, neighbours differing by 1."""
    bits = values.view(torch.int16).to(torch.int32)
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def candidates(live: LiveModel, case: Case, folder: Path, device: torch.device, repeats: int) -> tuple[float, float]:
    """Seconds of a candidate until the device is done, and until the host is; statistics are made before."""
    wall, launching = [], []
    for number in range(repeats + 2):
        recipe = recipe_of(case.candidate(number + 1), folder)
        synchronize(device)
        start = time.perf_counter()
        live.load(recipe)
        launching.append(time.perf_counter() - start)
        synchronize(device)
        wall.append(time.perf_counter() - start)
    return statistics.median(wall[2:]), statistics.median(launching[2:])


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes per second of a copy on the device, read and written."""
    size = COPIED if device.type == "cuda" else 1 << 24
    x = torch.zeros(size, dtype=torch.bfloat16, device=device)
    out = torch.empty_like(x)
    out.copy_(x)
    return 2 * x.nbytes / statistics.median(seconds_of(lambda: out.copy_(x), device) for _ in range(repeats))


def upload_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes per second from page-locked memory of the host to the device."""
    x = torch.zeros(1 << 29, dtype=torch.bfloat16, pin_memory=device.type == "cuda")
    out = torch.empty(x.shape, dtype=x.dtype, device=device)
    out.copy_(x)
    return x.nbytes / statistics.median(
        seconds_of(lambda: out.copy_(x, non_blocking=True), device) for _ in range(repeats)
    )


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_memory(device: torch.device) -> int:
    gc.collect()
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def host_bytes(value: object) -> int:
    """Bytes of the arrays in what a bank remembers."""
    if isinstance(value, tuple):
        return sum(host_bytes(part) for part in value)
    return int(getattr(value, "nbytes", 0))


def source_bytes(bank: ModelBank) -> int:
    return sum(bank[reference].nbytes for reference in bank.references)


def recipe_of(case: Case, folder: Path) -> Recipe:
    return parse_recipe(case.recipe(folder, dtype="float32", out_dtype="bfloat16"))


def marked(reached: bool, text: str) -> str:
    """A goal that is missed stands in bold."""
    return text if reached else f"**{text}**"


def show(text: str) -> None:
    print(f"\n{text}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="7B", help="such as 7B (Llama's) or 374M")
    parser.add_argument("--host-parameters", default="2B")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/gpu-merge"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
