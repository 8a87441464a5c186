"""Chat templates by name. They are written for this project; only what the formats' documents fix is in them."""

from __future__ import annotations

from mergesmith.errors import unknown

AUTO_TEMPLATE = "auto"  # the chat template that most of the models have

# Each message between <|im_start|> and <|im_end|>, as OpenAI's ChatML document has it.
CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
# Sections headed by ### as in the Stanford Alpaca prompts; a system message takes the place of the introduction.
ALPACA = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' -}}
{%- else -%}
{{- '### Response:\\n' + message['content'] + (eos_token or '') + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '### Response:\\n' -}}
{%- endif -%}
"""
NAMED = {"chatml": CHATML, "alpaca": ALPACA}
# mergekit knows these names too. Each is one maker's format, with that maker's control tokens and version.
REFUSED = ("exaone", "llama3", "mistral")


def template_fault(text: str) -> str | None:
    """What is wrong with a recipe's `chat_template`; None where it is auto, a name, or looks like Jinja."""
    if text == AUTO_TEMPLATE or text in NAMED or "{" in text:
        return None
    if text in REFUSED:
        return (
            f"'{text}' names one maker's template, which comes in versions and belongs to that maker's tokenizer; "
            "use tokenizer_source with a model that has it, or give the text of the Jinja template"
        )
    return f"{unknown('chat template', text, (AUTO_TEMPLATE, *NAMED))} A Jinja template may stand here as text."
