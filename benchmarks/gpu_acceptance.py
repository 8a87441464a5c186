"""The first run on a GPU: bits of every kernel, streamed sources, speed beside a copy, and scoring.

    python benchmarks/gpu_acceptance.py [bits stream speed scoring] [--device cuda] [--quick] [--out FOLDER]

Without a GPU the same code runs in Triton's interpreter, as a check of this script:
TRITON_INTERPRET=1 python benchmarks/gpu_acceptance.py --device cpu --quick. Every line is `ok`, `FAIL` or `info`; the
same lines are written to FOLDER/acceptance.jsonl. The exit code is 1 if anything failed. No setting of the GPU changes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import torch
import transformers
import triton
from gpu_acceptance_bits import check_bits
from gpu_acceptance_report import Report, freed, seconds
from gpu_acceptance_scoring import check_scoring
from gpu_acceptance_speed import measure_speed
from gpu_acceptance_stream import check_streaming

from mergesmith.merge_ops import kernel_report

SECTIONS = {"bits": check_bits, "stream": check_streaming, "speed": measure_speed, "scoring": check_scoring}


def report_environment(report: Report) -> None:
    """Report versions, the device, and the bandwidth of copies and uploads."""
    versions = f"torch {torch.__version__}, triton {triton.__version__}, transformers {transformers.__version__}"
    report.info(f"python {platform.python_version()}, {versions}; {kernel_report(report.device.type)}")
    if report.device.type != "cuda":
        return
    properties = torch.cuda.get_device_properties(report.device)
    free, total = torch.cuda.mem_get_info(report.device)
    memory = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    report.info(
        f"{properties.name}, sm_{properties.major}{properties.minor}, {memory}, {torch.cuda.device_count()} seen"
    )
    x = torch.empty(1 << 29, dtype=torch.bfloat16, device=report.device).normal_()
    y = torch.empty_like(x)
    copy = 2 * x.nbytes / seconds(lambda: y.copy_(x), report.device, repeats=9)
    host = torch.empty_like(x, device="cpu", pin_memory=True)
    upload = x.nbytes / seconds(lambda: x.copy_(host, non_blocking=True), report.device, repeats=5)
    report.info(f"copy on the device {copy / 1e12:.2f} TB/s, upload from page-locked memory {upload / 1e9:.1f} GB/s")


def main() -> int:
    """Run the sections; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--out", type=Path, default=Path("gpu_acceptance_out"))
    args = parser.parse_args()
    unknown = set(args.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown sections: {', '.join(sorted(unknown))}")
    device = torch.device(args.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
        if os.environ.get("TRITON_INTERPRET") == "1":
            parser.error("TRITON_INTERPRET=1 is set: kernels would not run on the GPU")
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(device, args.out, quick=args.quick)
    report_environment(report)
    for name in args.sections or SECTIONS:
        try:
            with report.section(name), torch.no_grad():
                SECTIONS[name](report)
        except Exception as error:  # the next section may pass
            traceback.print_exc()
            report.check(False, f"{name} ended with {type(error).__name__}: {str(error)[:300]}")
        freed(device)
    print(f"\n{report.failed} failed, {report.passed} ok")
    return int(report.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
