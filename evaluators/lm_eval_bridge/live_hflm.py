"""lm-eval's HFLM around a model that is overwritten in place, with tokenization apart from scoring."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.models import huggingface
from lm_eval.models.utils import normalize_gen_kwargs

from mergesmith.errors import UserError

Pair = tuple[Any, list[int], list[int]]  # (strings or None, context tokens, continuation tokens), HFLM's own form


# lm-eval's registering decorator hides the class's own type from type checkers.
HFLM: Any = huggingface.HFLM


class NonFiniteLogitsError(ArithmeticError):
    """The model gave NaN or infinite logits while generating."""


class LiveLM(HFLM):
    """HFLM that is built without a model; `attach` gives it one before scoring.

    HFLM's constructor calls `model.tie_weights()`, which silently overwrites the output embedding of an untied model
    whose config says "tied". Built around no model, it has nothing to tie, and one object serves every candidate.
    """

    def __init__(self, tokenizer: Any, *, batch_size: int, max_length: int | None) -> None:
        nothing = SimpleNamespace(device=torch.device("cpu"), config=None)
        super().__init__(
            pretrained=nothing,
            backend="causal",
            tokenizer=usable_tokenizer(tokenizer),
            batch_size=batch_size,
            max_length=max_length,
            # In bfloat16 a softmax in the model's own precision is off by up to 0.2 nat and ties choices exactly.
            softmax_dtype="float32",
            # Two requests that cut the same tokens at different points would share logits and score wrong positions.
            logits_cache=False,
        )
        self.given_max_length = max_length
        self._recording = False
        self._encoded: dict[str, list[int]] = {}

    def attach(self, model: Any) -> None:
        """Score with this model from now on."""
        self._model = model
        self._device = model.device
        self._config = model.config
        model.eval()

    def tokenize(self, requests: Sequence[Instance]) -> list[Pair]:
        """Tokens of (context, continuation) requests, by lm-eval's own rules and in the given order."""
        self._recording = True
        try:
            return self.loglikelihood(list(requests), disable_tqdm=True)
        finally:
            self._recording = False

    def windows(self, tokens: list[int]) -> list[Pair]:
        """The disjoint windows in which a document is scored; they depend on the attached model's length."""
        rolling = utils.get_rolling_token_windows(
            token_list=tokens, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return [(None, *utils.make_disjoint_window(window)) for window in rolling]

    def most_new_tokens(self, settings: dict[str, Any]) -> int:
        """How many tokens generation settings allow."""
        return normalize_gen_kwargs(settings, self.max_gen_toks).get("max_gen_toks", self.max_gen_toks)

    def score_pairs(self, pairs: Sequence[Pair], *, share_logits: bool) -> list[tuple[float, bool]]:
        """(log-likelihood in nat, is greedy) of each continuation.

        `share_logits` lets requests with the same tokens but the last share one forward row, which is only right where
        no two requests cut the same tokens at different points.
        """
        self.logits_cache = share_logits
        try:
            return self._loglikelihood_tokens(list(pairs), disable_tqdm=True)
        finally:
            self.logits_cache = False

    def generate(self, requests: Sequence[Instance]) -> list[str]:
        """Generated text of each request.

        Raises:
            NonFiniteLogitsError: at the first NaN or infinite logit.
        """
        with _finite_logits(self.model):
            return self.generate_until(list(requests), disable_tqdm=True)

    def prompt_tokens(self, string: str) -> list[int]:
        """The tokens that `generate_until` would continue if it were given this prompt alone.

        They are kept: lm-eval sorts prompts by their number of tokens again in every call.
        """
        if string not in self._encoded:
            self._encoded[string] = self.tok_batch_encode([string])[0][0].tolist()
        return self._encoded[string]

    def set_batch_size(self, rows: int) -> None:
        """Score with this many rows per batch from now on."""
        self.batch_size_per_gpu = rows

    def halve_batches(self) -> bool:
        """Score with half as many rows per batch from now on; return False if there is only one."""
        if self.batch_size_per_gpu == 1:
            return False
        self.batch_size_per_gpu //= 2
        return True

    @contextlib.contextmanager
    def smaller_batches(self) -> Iterator[None]:
        """Half as many rows per batch."""
        before = self.batch_size_per_gpu
        self.batch_size_per_gpu = max(1, before // 2)
        try:
            yield
        finally:
            self.batch_size_per_gpu = before

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """As HFLM's, but the prompts of generations are looked up."""
        if not args and not kwargs and (known := self._encoded.get(string)) is not None:
            return known
        return super().tok_encode(string, *args, **kwargs)

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        """As HFLM's, but a special token that a stop string is found in ends its row.

        lm-eval stops a batch when the last row has met a stop string, and then cuts the texts. Special tokens are not
        in the texts any more, so a row that met one would go on for as long as the others do: its answer would depend
        on the batch. Alone in its batch it ends there.
        """
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
        ends = list(dict.fromkeys([*ends, *self.special_stops(stop)]))
        return super()._model_generate(context, max_length, stop, eos_token_id=ends or None, **kwargs)

    def special_stops(self, strings: Sequence[str]) -> list[int]:
        """Ids of the special tokens whose own text holds one of the stop strings."""
        added: Any = self.tokenizer.added_tokens_decoder
        special = {*self.tokenizer.all_special_ids, *(token for token, form in added.items() if form.special)}
        texts = {token: self.tokenizer.decode([token]) for token in sorted(special)}
        return [token for token, text in texts.items() if any(string in text for string in strings if string)]

    def _loglikelihood_tokens(self, requests: list, *args: Any, **kwargs: Any) -> list:
        return requests if self._recording else super()._loglikelihood_tokens(requests, *args, **kwargs)


def usable_tokenizer(tokenizer: Any) -> Any:
    """A copy with a padding token: lm-eval would add a token that the model's embedding may have no row for.

    Raises:
        UserError: the tokenizer has no end-of-sequence token, or is not a Hugging Face tokenizer.
    """
    import transformers

    if not isinstance(tokenizer, (transformers.PreTrainedTokenizer, transformers.PreTrainedTokenizerFast)):
        raise UserError(f"tokenizer: lm-eval needs a Hugging Face tokenizer, but this is a {type(tokenizer).__name__}")
    if tokenizer.eos_token_id is None:
        raise UserError("tokenizer: it has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    usable = copy.deepcopy(tokenizer)
    if usable.pad_token_id is None:
        usable.pad_token = usable.unk_token or usable.eos_token  # lm-eval's order; padding is masked out
    return usable


@contextlib.contextmanager
def _finite_logits(model: Any) -> Iterator[None]:
    # argmax over NaN gives token 0 without complaint, so generation must be watched. max propagates NaN.
    def check(_module: Any, _inputs: Any, output: Any) -> None:
        if not torch.isfinite(output.logits.amax(-1)).all():
            raise NonFiniteLogitsError

    handle = model.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()
