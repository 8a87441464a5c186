"""Compiles the kernel of SCE's energies without a GPU, and prints the bytes of stack of each variant as JSON.

The pointers are declared divisible by 16, as they are in a run: the compiler then unrolls and vectorizes more.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mergesmith.merge_ops.executors.gpu.launch import EXACT
from mergesmith.merge_ops.executors.gpu.methods.sce import ENERGY_BLOCK, energies

TABLES = {"addresses": "*i64", "cut": "*i64", "size": "i64", "first_chunk": "i32", "sums": "*fp64"}


def stack_bytes(capability: int, count: int) -> int:
    """Return the bytes of stack per thread for bfloat16 inputs: spilled registers and arrays."""
    constants = {"CODES": 0, "COUNT": count, "ALIGNED": True, "BLOCK": ENERGY_BLOCK}
    names = energies.arg_names
    signature = {name: TABLES.get(name, "constexpr") for name in names}
    divisible = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(energies, signature=signature, constexprs=constants, attrs=divisible)
    cubin = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=EXACT).asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (size,) = re.findall(r"STACK:(\d+)", output)
    return int(size)


if __name__ == "__main__":
    variants = [(capability, count) for capability in (80, 89, 90) for count in (2, 4)]
    print(json.dumps({f"sm_{c}, {count} sources": stack_bytes(c, count) for c, count in variants}))
