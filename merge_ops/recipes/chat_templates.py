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
# Headers and <|eot_id|> as Meta's Llama 3 model cards have them.
LLAMA3 = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + (message['content'] | trim) + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""
# Instructions in [INST] as in Mistral 7B Instruct, which has no system role: it goes before the next instruction.
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
    """What is wrong with a recipe's `chat_template`; None where it is auto, a name, or looks like Jinja."""
    if text == AUTO_TEMPLATE or text in NAMED or "{" in text:
        return None
    return f"{unknown('chat template', text, (AUTO_TEMPLATE, *NAMED))} A Jinja template may stand here as text."
