"""lm-eval's HFLM for a model that is overwritten in place, with tokenization separate from scoring."""

from __future__ import annotations

import contextlib
import copy
import datetime
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from jinja2 import TemplateError
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.models import huggingface
from lm_eval.models.utils import normalize_gen_kwargs

from mergesmith.errors import UserError, first_line

from .isolation import fixed_date, generation_settings

Pair = tuple[Any, list[int], list[int]]  # (strings or None, context tokens, continuation tokens), as in HFLM


# lm-eval's registering decorator hides the class from type checkers.
HFLM: Any = huggingface.HFLM


class NonFiniteLogitsError(ArithmeticError):
    """The model produced NaN or infinite logits while generating."""


class LiveLM(HFLM):
    """HFLM that is built without a model; `attach` sets the model before scoring.

    HFLM's constructor calls `model.tie_weights()`, which silently overwrites the output embedding of an untied model
    whose config says "tied". Built without a model, it ties nothing, and one object serves every candidate.
    """

    def __init__(
        self, tokenizer: Any, *, batch_size: int, max_length: int | None, date: datetime.date | None = None
    ) -> None:
        nothing = SimpleNamespace(device=torch.device("cpu"), config=None)
        super().__init__(
            pretrained=nothing,
            backend="causal",
            tokenizer=usable_tokenizer(tokenizer),
            batch_size=batch_size,
            max_length=max_length,
            # In bfloat16 a softmax in the model's precision is off by up to 0.2 nat, and choices tie.
            softmax_dtype="float32",
            # Two requests that cut the same tokens at different points would share logits and score wrong positions.
            logits_cache=False,
        )
        self.given_max_length = max_length
        self._date = date
        self._recording = False
        self._encoded: dict[str, list[int]] = {}

    def attach(self, model: Any) -> None:
        """Score with this model from now on."""
        self._model = model
        self._device = model.device
        self._config = model.config
        model.eval()

    def tokenize(self, requests: Sequence[Instance]) -> list[Pair]:
        """Return the tokens of (context, continuation) requests by lm-eval's rules, in the given order."""
        self._recording = True
        try:
            return self.loglikelihood(list(requests), disable_tqdm=True)
        finally:
            self._recording = False

    def windows(self, tokens: list[int]) -> list[Pair]:
        """Return the disjoint windows in which a document is scored; they depend on the model's context length."""
        rolling = utils.get_rolling_token_windows(
            token_list=tokens, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return [(None, *utils.make_disjoint_window(window)) for window in rolling]

    def most_new_tokens(self, settings: dict[str, Any]) -> int:
        """Return how many new tokens generation settings allow."""
        return normalize_gen_kwargs(settings, self.max_gen_toks).get("max_gen_toks", self.max_gen_toks)

    def score_pairs(self, pairs: Sequence[Pair], *, share_logits: bool) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nat, whether it is greedy) of each continuation.

        With `share_logits`, requests that differ only in their last token share one row. This is only correct if no two
        requests split the same tokens into context and continuation at different points.
        """
        self.logits_cache = share_logits
        try:
            return self._loglikelihood_tokens(list(pairs), disable_tqdm=True)
        finally:
            self.logits_cache = False

    def generate(self, requests: Sequence[Instance]) -> list[str]:
        """Return the generated text of each request.

        Raises:
            NonFiniteLogitsError: at the first NaN or infinite logit.
        """
        with _finite_logits(self.model):
            return self.generate_until(list(requests), disable_tqdm=True)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """As in HFLM, but if generation_config.json changes answers, only prompts of one length share a batch.

        A repetition penalty, among others, counts padding tokens, so that an answer would depend on the batch.
        """
        if not generation_settings(self.model):
            return super().generate_until(requests, disable_tqdm=disable_tqdm)
        by_length: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            by_length.setdefault(len(self.prompt_tokens(request.args[0])), []).append(number)
        answers = [""] * len(requests)
        for numbers in by_length.values():
            found = super().generate_until([requests[number] for number in numbers], disable_tqdm=disable_tqdm)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """As in HFLM, but templates that print today's date print the run's."""
        with fixed_date(self._date):
            return super().apply_chat_template(chat_history, add_generation_prompt)

    def template_error(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str | None:
        """Return the error that the chat template raises for messages; HFLM then leaves out the system message."""
        try:
            with fixed_date(self._date):
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **self.chat_template_args,
                )
        except TemplateError as error:
            return first_line(error)
        return None

    def prompt_tokens(self, string: str) -> list[int]:
        """Return the tokens that `generate_until` would continue if the prompt were the only one in its batch.

        They are cached: lm-eval sorts prompts by their number of tokens again in every call.
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
        """Score with half as many rows per batch until the block ends."""
        before = self.batch_size_per_gpu
        self.batch_size_per_gpu = max(1, before // 2)
        try:
            yield
        finally:
            self.batch_size_per_gpu = before

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """As in HFLM, but cached for prompts of generations."""
        if not args and not kwargs and (known := self._encoded.get(string)) is not None:
            return known
        return super().tok_encode(string, *args, **kwargs)

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        """As in HFLM, but a special token whose text contains a stop string ends its row.

        lm-eval stops a batch when the last row has met a stop string, and then cuts the texts at the stop strings. As
        special tokens are left out of the texts, a row that met such a token would continue as long as the others do,
        and its answer would depend on the batch. In a batch of one row it ends at that token.
        """
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
        ends = list(dict.fromkeys([*ends, *self.special_stops(stop)]))
        return super()._model_generate(context, max_length, stop, eos_token_id=ends or None, **kwargs)

    def special_stops(self, strings: Sequence[str]) -> list[int]:
        """Return the ids of the special tokens whose text contains one of the stop strings."""
        added: Any = self.tokenizer.added_tokens_decoder
        special = {*self.tokenizer.all_special_ids, *(token for token, form in added.items() if form.special)}
        texts = {token: self.tokenizer.decode([token]) for token in sorted(special)}
        return [token for token, text in texts.items() if any(string in text for string in strings if string)]

    def _loglikelihood_tokens(self, requests: list, *args: Any, **kwargs: Any) -> list:
        return requests if self._recording else super()._loglikelihood_tokens(requests, *args, **kwargs)


def usable_tokenizer(tokenizer: Any) -> Any:
    """Return a copy with a padding token: lm-eval might add a token for which the model's embedding has no row.

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
    # argmax over NaN returns token 0 without an error, so logits are checked in a hook. max propagates NaN.
    def check(_module: Any, _inputs: Any, output: Any) -> None:
        if not torch.isfinite(output.logits.amax(-1)).all():
            raise NonFiniteLogitsError

    handle = model.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()
