"""Chat templates by name, written for this project from the published descriptions of the formats."""

from __future__ import annotations

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

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


class _Generation(Extension):
    """The tag {% generation %} of transformers' chat templates, which marks the text of the assistant."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - declared like this in jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def template_fault(text: str) -> str | None:
    """Return the fault of a recipe's `chat_template`, or None if it is `auto`, a name, or a Jinja template."""
    if text == AUTO_TEMPLATE or text in NAMED:
        return None
    if "{" not in text:
        return (
            f"{unknown('chat template', text, (AUTO_TEMPLATE, *NAMED))} The text of a Jinja template is accepted too."
        )
    try:
        SandboxedEnvironment(extensions=[_Generation, loopcontrols]).from_string(text)
    except TemplateSyntaxError as error:
        line = [*text.splitlines(), ""][error.lineno - 1].strip()
        return f"is not a Jinja template: line {error.lineno}, '{line}': {error.message}"
    return None
