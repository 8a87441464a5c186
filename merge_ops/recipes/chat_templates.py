"""Chat templates by name, written for this project from the published descriptions of the formats."""

from __future__ import annotations

from mergesmith.errors import unknown

AUTO_TEMPLATE = "auto"  # the most frequent chat template of the models

# Each message between <|im_start|> and <|im_end|>, as in OpenAI's ChatML document.
CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
# Sections with ### headings as in the Stanford Alpaca prompts; a system message replaces the introduction.
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
# Headers and <|eot_id|> as in Meta's Llama 3 model cards.
LLAMA3 = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + (message['content'] | trim) + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""
# Instructions in [INST] as in Mistral 7B Instruct, which has no system role: its text precedes the next instruction.
MISTRAL = """\
{{- bos_token or '' -}}
{%- set pending = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set pending.system = message['content'] + '\\n\\n' -%}
{%- elif message['role'] == 'user' -%}
{{- '[INST] ' + pending.system + message['content'] + ' [/INST]' -}}
{%- set pending.system = '' -%}
{%- else -%}
{{- ' ' + message['content'] + (eos_token or '') -}}
{%- endif -%}
{%- endfor -%}
"""
# Role tags and [|endofturn|] as in LG's EXAONE 3 model cards; a user's turn ends with the line.
EXAONE = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '[|user|]' + message['content'] + '\\n' -}}
{%- else -%}
{{- '[|' + message['role'] + '|]' + message['content'] + '[|endofturn|]\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '[|assistant|]' -}}
{%- endif -%}
"""
NAMED = {"alpaca": ALPACA, "chatml": CHATML, "exaone": EXAONE, "llama3": LLAMA3, "mistral": MISTRAL}


def template_fault(text: str) -> str | None:
    """Return the fault of a recipe's `chat_template`, or None if it is `auto`, a name, or looks like Jinja."""
    if text == AUTO_TEMPLATE or text in NAMED or "{" in text:
        return None
    return f"{unknown('chat template', text, (AUTO_TEMPLATE, *NAMED))} The text of a Jinja template is accepted too."
