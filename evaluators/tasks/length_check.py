"""Checks that a task's prompts and answers fit into a model's context length."""

from __future__ import annotations

from mergesmith.errors import Faults

from .suite_content import SuiteContent


def check_lengths(content: SuiteContent) -> tuple[str, ...]:
    """Return warnings for prompts that are cut on the left to fit the attached model, which lm-eval does silently.

    Raises:
        UserError: a task asks for as many new tokens as the model has positions, or scores a longer answer.
    """
    length, faults, warnings = content.lm.max_length, Faults("tasks"), []
    for name, leaf in content.leaves.items():
        requests = leaf.all_requests()
        pairs = [request.pair for request in requests if request.pair is not None]
        if any(len(pair[2]) > length for pair in pairs):
            faults.add(name, f"an answer is longer than the model's {length} positions")
        kinds = {str(r.arguments[1]): r.arguments[1] for r in requests if r.is_generation}
        new = max((content.lm.most_new_tokens(kwargs) for kwargs in kinds.values()), default=0)
        if new >= length:
            faults.add(name, f"asks for {new} new tokens (max_gen_toks), but the model has only {length} positions")
        cut = sum(len(pair[1]) + len(pair[2]) > length + 1 for pair in pairs)
        cut += sum(len(r.prompt or ()) > length - new for r in requests)
        if cut:
            warnings.append(
                f"{name}: {cut} of {len(requests)} prompts are longer than the model takes and lose their start"
            )
    faults.raise_if_any()
    return tuple(warnings)
