"""Stop conditions of generated texts: stop strings and the token limit, as in lm-eval's HFLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from ..lm_eval_bridge.live_hflm import LiveLM
from ..records import UnsupportedError

# Settings of `generation_kwargs` without effect on greedy decoding.
_WITHOUT_EFFECT = frozenset({"do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p"})
_UNDECODABLE = "\ufffd"


class StopConditions:
    """The stop strings and the token limit of one set of generation settings.

    lm-eval searches for each stop string in the text of the newest tokens, two more than the string has, and cuts the
    finished text at the first match. Here a text is searched only if its newest token may complete a stop string.

    Raises:
        UnsupportedError: the settings are not plain greedy decoding.
    """

    def __init__(self, settings: dict[str, Any], lm: LiveLM) -> None:
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(settings, lm.max_gen_toks))
        strange = sorted(kwargs.keys() - _WITHOUT_EFFECT - {"until", "max_gen_toks"})
        if kwargs["do_sample"] or strange:
            raise UnsupportedError(f"its answers are not decoded greedily ({strange[0] if strange else 'do_sample'})")
        eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        self.limit: int = kwargs["max_gen_toks"]
        self.strings: list[str] = handle_stop_sequences(list(kwargs["until"]), eos=eos)
        self._tokenizer = lm.tokenizer
        self._window = 2 + max((len(self._tokens(string)) for string in self.strings), default=0)
        # The empty string is in any text, so lm-eval stops after one token. A space may be missing from the text of a
        # single token, since SentencePiece decoders remove the first space of a text.
        any_ending = any(string[-1:] in ("", " ") for string in self.strings)
        self._endings = None if any_ending else {string[-1] for string in self.strings}
        self._may_complete: dict[int, bool] = {}

    def reached(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Return for each list of generated tokens whether its last token completes a stop string."""
        rows_to_decode = [i for i, row in enumerate(rows) if self._may_complete_stop(row[-1])]
        stopped = [False] * len(rows)
        if rows_to_decode:
            texts = self._tokenizer.batch_decode([rows[i][-self._window :] for i in rows_to_decode])
            for i, text in zip(rows_to_decode, texts, strict=True):
                stopped[i] = any(string in text for string in self.strings)
        return stopped

    def text(self, tokens: Sequence[int]) -> str:
        """Decode generated tokens to the answer: without special tokens, cut at the first stop string."""
        decoded: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return postprocess_generated_text(decoded, stop=self.strings, think_end_token=None)

    def _may_complete_stop(self, token: int) -> bool:
        if self._endings is None:
            return True
        may_complete = self._may_complete.get(token)
        if may_complete is None:
            text = self._tokenizer.decode([token])
            # A token without text may change how the tokens before it are decoded.
            may_complete = not text or _UNDECODABLE in text or not self._endings.isdisjoint(text)
            self._may_complete[token] = may_complete
        return may_complete

    def _tokens(self, string: str) -> list[int]:
        return self._tokenizer.encode(string, add_special_tokens=False)
