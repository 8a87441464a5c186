"""Finds chat settings without effect, and templates that leave out the system prompt or a task's description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config import ChatConfig, EvaluationConfig
from ..lm_eval_bridge.live_hflm import LiveLM

SYSTEM = "system"


class SystemMessages:
    """A chat template as lm-eval calls it, which notes whether a prompt lacks its system message.

    lm-eval removes the system message if the template raises an error (Gemma); other templates skip it (old Mistral).
    """

    def __init__(self, lm: LiveLM) -> None:
        self._lm = lm
        self.fault: str | None = None  # "the chat template ..." of the first prompt without its system message

    def __call__(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a list of messages."""
        prompt = self._lm.apply_chat_template(chat_history, add_generation_prompt)
        if self.fault is None:
            self.fault = self._fault(prompt, chat_history, add_generation_prompt)
        return prompt

    def _fault(self, prompt: str, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str | None:
        texts = [message["content"] for message in messages if message["role"] == SYSTEM]
        if all(text.strip() in prompt for text in texts):
            return None
        # The template may have changed the text, such as its quotes. Then another text gives another prompt.
        other = [m if m["role"] != SYSTEM else {**m, "content": f"x {m['content']} x"} for m in messages]
        if self._lm.apply_chat_template(other, add_generation_prompt) != prompt:
            return None
        reason = self._lm.template_error(messages, add_generation_prompt)
        return "the chat template leaves it out" if reason is None else f"the chat template refuses it ({reason})"


def unused_settings(config: EvaluationConfig) -> list[str]:
    """Return warnings for chat settings that no task uses."""
    chat = config.chat
    template, system = ("chat.apply_template", chat.apply_template), ("chat.system", chat.system)
    multiturn, date = ("chat.fewshot_as_multiturn", not chat.fewshot_as_multiturn), ("chat.date", chat.date)
    if all(task.python is not None for task in config.tasks):
        return _warning((template, system, multiturn), "all tasks are Python objectives, which build their prompts")
    if not chat.apply_template:
        return _warning((multiturn, date), "chat.apply_template is false")
    return []


def unused_by_task(task: Any, chat: ChatConfig) -> list[str]:
    """Return warnings for chat settings that lm-eval ignores for a task."""
    if task.OUTPUT_TYPE != "loglikelihood_rolling":
        return []
    given = (("chat.apply_template", chat.apply_template), ("chat.system", chat.system))
    return _warning(given, "the task scores whole documents, which have no prompt")


def _warning(settings: Iterable[tuple[str, Any]], reason: str) -> list[str]:
    given = [name for name, value in settings if value]
    if not given:
        return []
    return [f"{' and '.join(given)} {'has' if len(given) == 1 else 'have'} no effect: {reason}"]
