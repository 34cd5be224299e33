"""How the InternVL authors' code writes a conversation, by the name that their config.json gives (``template``).

Their checkpoints carry other templates too (those of the decoder), which their code does not use. A picture or video is
a line of its own where the caller put it. Upstream: OpenGVLab/InternVL internvl/conversation.py.
"""

import json

from eyespot.errors import EyespotError, nearest

_PARTS = """\
{%- macro written(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}{{ '<IMG_CONTEXT>\\n' }}
{%- elif part.type == 'video' -%}{{ '<video>\\n' }}
{%- else -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set system = SYSTEM -%}
{%- if messages[0].role == 'system' -%}
{%- set system = written(messages[0].content) -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
"""
_CHATML = (
    _PARTS
    + """\
{{ '<|im_start|>system\\n' + system + '<|im_end|>END' }}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ written(message.content) + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ written(message.content) + '<|im_end|>' }}
{%- endif -%}
{{ 'END' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
)
_HUMAN_BOT = (
    _PARTS
    + """\
{{ system + ' ' }}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{ '<bot>: ' }}{% generation %}{{ written(message.content) + '</s>' }}{% endgeneration %}
{%- else -%}
{{ '<human>: ' + written(message.content) + ' ' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<bot>:' }}{%- endif -%}
"""
)
_OLDER = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
_NEWER = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
# Name: the form, what the system says where the caller gives nothing, the end token.
_FORMS = {
    "internvl2_5": (_CHATML.replace("END", "\\n"), _NEWER, "<|im_end|>"),
    "internlm2-chat": (_CHATML.replace("END", ""), _OLDER, "<|im_end|>"),
    # The same to the letter; the comment keeps the names apart.
    "Hermes-2": (_CHATML.replace("END", "") + "{#- Hermes-2 -#}\n", _OLDER, "<|im_end|>"),
    "internvl_zh": (_HUMAN_BOT, "", "</s>"),
}


def prompt(name: str, system: str | None = None) -> str:
    """The Jinja template of a name; `system` is what the system says where the caller gives nothing.

    Raises:
        EyespotError: ``family-config`` for a name that is not known.
    """
    if not isinstance(name, str) or name not in _FORMS:
        message = f"template = {name!r} is not supported{nearest(str(name), _FORMS)}; known: {', '.join(_FORMS)}"
        raise EyespotError("family-config", message)
    form, default, _ = _FORMS[name]
    # A string of JSON is one of Jinja: what a config says is text there, whatever it spells.
    return form.replace("SYSTEM", json.dumps(default if system is None else system))


def end_token(name: str) -> str:
    """What ends an answer."""
    return _FORMS[name][2]


def named(template: str) -> tuple[str, str | None]:
    """The name of a template, and what its system says unless that is the name's own.

    Raises:
        EyespotError: ``layout-unsupported`` for a template that no name stands for.
    """
    for name, (form, default, _) in _FORMS.items():
        before, _, after = form.partition("SYSTEM")
        if template.startswith(before) and template.endswith(after) and len(template) >= len(before) + len(after):
            try:
                system = json.loads(template[len(before) : len(template) - len(after)])
            except ValueError:
                continue
            return name, None if system == default else system
    known = ", ".join(_FORMS)
    raise EyespotError("layout-unsupported", f"the authors' InternVL knows templates by name only ({known})")
