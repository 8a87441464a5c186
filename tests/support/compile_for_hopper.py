"""Compiles every Triton kernel for sm_90 without a GPU, and prints the names of its instructions as JSON.

Run in a separate process: kernels are either compiled or interpreted within one process.
"""

from __future__ import annotations

import json
import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mergesmith.merge_ops.executors.gpu import linear
from mergesmith.merge_ops.executors.gpu.elementwise import elementwise
from mergesmith.merge_ops.executors.gpu.launch import BLOCK, EXACT, STEP
from mergesmith.merge_ops.executors.gpu.magnitudes.cut_kernels import collect, find_indices
from mergesmith.merge_ops.executors.gpu.masked_sum import masked_sum
from mergesmith.merge_ops.executors.gpu.methods import arcee_fusion, consensus, nearswap, ram, sce
from mergesmith.merge_ops.executors.variants import MaskKind, Vote

MIXED = 0b0000_1001  # result float16, then float32, then bfloat16
TABLES = {"chunks": "*i64", "addresses": "*i64", "integers": "*i64", "factors": "*fp32", "coefficients": "*fp32"}
TABLES |= {"queries": "*i64", "query": "*i64", "found": "*i32", "keys": "*i64", "size": "i64", "inner": "i64"}
TABLES |= {"period": "i32", "parameters": "*fp32", "cut": "*i64", "first_chunk": "i32", "sums": "*fp64"}

COMMON = {"COUNT": 3, "ALIGNED": True, "BLOCK": BLOCK, "CODES": 0}
KERNELS = {
    "combine": (linear.combine, COMMON),
    "combine mixed": (linear.combine, {**COMMON, "CODES": MIXED, "ALIGNED": False}),
    "combine_rows": (linear.combine_rows, {"COUNT": 3, "BLOCK": BLOCK, "CODES": 0, "WIDE": False}),
    "combine_rows wide": (linear.combine_rows, {"COUNT": 3, "BLOCK": BLOCK, "CODES": 0, "WIDE": True}),
    "find_indices": (find_indices, {"CODES": 0, "COUNT": 1, "BLOCK": 2048}),
    "find_indices of variances": (find_indices, {"CODES": 0, "COUNT": 3, "BLOCK": 2048}),
    "collect": (collect, {"CODES": 0, "COUNT": 1, "ALIGNED": True, "CHUNK": STEP, "BLOCK": 2048}),
    "energies": (sce.energies, COMMON),
    **{
        f"masked_sum {kind.name} {vote.name}": (masked_sum, {**COMMON, "KIND": int(kind), "VOTE": int(vote)})
        for kind, vote in (
            (MaskKind.LARGEST, Vote.ELECT_AND_DIVIDE),
            (MaskKind.WINDOW, Vote.SUM),
            (MaskKind.HASH, Vote.ELECT),
            (MaskKind.HASH, Vote.ELECT_AND_DIVIDE),
            (MaskKind.RANK, Vote.ELECT_AND_DIVIDE),
            (MaskKind.LARGEST, Vote.AVERAGE),
        )
    },
    **{
        name: (elementwise, {**COMMON, "COUNT": count, "RULE": rule, "STRIDE": 5})
        for name, rule, count in (
            ("nearswap", nearswap.nearswap, 1),
            ("ram", ram.ram, 3),
            ("consensus", consensus.consensus, 3),
            ("arcee_fusion", arcee_fusion.arcee_fusion, 1),
            ("sce", sce.sce, 3),
            ("sce on a cut", sce.sce_on_cut, 3),
        )
    },
}


def instructions(name: str) -> list[str]:
    """Return the names of the loads, stores and floating-point instructions of a kernel's PTX, in order."""
    kernel, constants = KERNELS[name]
    signature = {name: "constexpr" if name in constants else TABLES[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=EXACT).asm["ptx"]
    return re.findall(r"^\s+(?:@%p\d+ )?((?:ld\.global|st\.global|fma|mad|div|mul|add|sub|min|max)[\w.:]*)", ptx, re.M)


if __name__ == "__main__":
    print(json.dumps({name: instructions(name) for name in sys.argv[1:] or KERNELS}))
