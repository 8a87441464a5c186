"""Recognizes quantized weights by the tensors of a checkpoint. Averages of their codes would mean nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mergesmith.errors import UserError, first_few

from .source import TensorEntry

REMEDY = "codes cannot be averaged; use the checkpoint that it was quantized from, or write a dequantized one"
# Tensors that float8, GPTQ, AWQ, bitsandbytes, compressed-tensors and MXFP4 checkpoints store beside the weights or
# instead of them.
COMPANION = re.compile(
    r"(?:weight|proj)_(?:scales?|scale_inv|scale_2|packed|blocks)$"
    r"|\.(?:qweight|qzeros|scale_weight|SCB)$"
    r"|\.weight\.(?:absmax|quant_map|quant_state\..*)$"
)


def raise_if_quantized(reference: str, stored: Iterable[str], entries: Mapping[str, TensorEntry]) -> None:
    """Reject a checkpoint with quantized weights.

    Args:
        reference: the model.
        stored: names of all tensors in its files.
        entries: those of them that its config.json describes, by canonical name.

    Raises:
        UserError: it has tensors with scales or packed codes, or weight matrices of an integer dtype.
    """
    found = sorted(name for name in stored if COMPANION.search(name) and name not in entries) or [
        f"{name} of {str(entry.dtype).removeprefix('torch.')}"
        for name, entry in entries.items()
        if name.endswith("weight") and len(entry.shape) > 1 and not entry.dtype.is_floating_point
    ]
    if found:
        raise UserError(
            f"model '{reference}': its weights are quantized (its files contain {first_few(found)}), and {REMEDY}"
        )
