"""Write docs/reference/families.md: every family merged, written, loaded and compared with the live model.

    python benchmarks/family_table.py

The models are tiny and random; what is shown is that names, shapes and configurations come through whole.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from families import FAMILIES, write_models  # noqa: E402
from transformers import AutoModelForCausalLM, __version__  # noqa: E402

from mergesmith.merge_ops import LiveModel, ModelBank, parse_recipe, write_merge  # noqa: E402
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers  # noqa: E402

RECIPE = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 0.6, density: 0.5}}
  - {model: b, parameters: {weight: [0.9, 0.2], density: 0.7}}
"""
TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11, 12, 13, 14, 15]])
PECULIAR = {
    "qwen2": "tied head; half of the layers slide",
    "qwen3": "tied head; norms inside attention",
    "gemma2": "every second layer slides",
    "gemma3_text": "every second layer slides; two rotary tables",
    "phi3": "attention and gates stored fused, merged as stored",
    "gpt2": "transposed weights, tied head, no `model.` prefix in published files",
    "gpt_neox": "the head is `embed_out` in files, `lm_head` in memory; both are read",
    "olmo2": "norms after the blocks",
    "mixtral": "experts: one tensor each in files, fused in memory; both are read",
    "qwen3_moe": "as Mixtral; dense layers by `mlp_only_layers`, which follows stacked layers",
    "deepseek_v3": "as Mixtral; `e_score_correction_bias` is merged; the first layers are dense by number",
    "gpt_oss": "experts stored fused, merged fused: magnitudes are compared across a layer's experts",
    "qwen3_next": "recurrent and attention layers, shared and routed experts",
    "jamba": "Mamba and attention layers, placed by number",
    "lfm2": "convolution and attention layers",
}
HEAD = """# Model families

Written by `benchmarks/family_table.py` with transformers {version}: for each family a tiny random base and two
fine-tunes, merged by TIES, written, and loaded again.

*Loads*: `from_pretrained` reports no missing, unexpected or mismatched key. *Live*: all weights of the live model (the
model in memory that a search writes its candidates into) and its logits equal those of the loaded checkpoint, bit for
bit.

| family | tensors in files | in memory | merged and written | loads | live | notes |
| --- | ---: | ---: | --- | --- | --- | --- |
"""
TAIL = """
Files may use either of two sets of tensor names: those that `save_pretrained` writes (the names of published
checkpoints), or those of transformers' modules, which newer programs save (a layer's experts as one tensor, a renamed
head). Tensors are always merged and written under the first. So each expert is trimmed separately, whatever its file
looked like; if published files have fused experts (gpt-oss), they are merged fused.

A filter gives routers different parameters: `- {filter: mlp.gate., value: 0}` (`block_sparse_moe.gate` in Mixtral,
`mlp.router` in gpt-oss, `feed_forward.router` in Jamba).
"""


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "reference" / "families.md")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    rows = []
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(family, Path(folder)))
        print(rows[-1])
    output.write_text(HEAD.format(version=__version__) + "\n".join(rows) + "\n" + TAIL, encoding="utf-8")


@torch.no_grad()
def row(family: str, folder: Path) -> str:
    """One family's line of the table."""
    write_models(folder, family)
    recipe = parse_recipe(RECIPE)
    bank = ModelBank(recipe.references(), roots=[folder])
    live = LiveModel(bank)
    live.load(recipe)
    write_merge(recipe, bank, folder / "out")
    with quiet_transformers():
        again, told = cast(Any, AutoModelForCausalLM).from_pretrained(folder / "out", output_loading_info=True)
    ours, theirs = live.model.state_dict(), again.state_dict()
    weights = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    logits = torch.equal(live.model(TOKENS).logits, again.eval()(TOKENS).logits)
    files, memory = len(bank["base"].entries), len(list(again.parameters()))
    loads, equal = ("yes" if ok else "NO" for ok in (not any(told.values()), weights and logits))
    return f"| {family} | {files} | {memory} | yes | {loads} | {equal} | {PECULIAR.get(family, '')} |"


if __name__ == "__main__":
    main()
