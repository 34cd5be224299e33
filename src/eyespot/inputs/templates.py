"""Chat templates by name, for checkpoints that carry none, and the change that lets a text template take pictures.

Never chosen in silence: a model without a template raises ``template-missing`` until the caller names one of these.
Formats: LLaVA's `conversation.py` (v1 and plain), github.com/haotian-liu/LLaVA.
"""

from collections.abc import Sequence

# How a message's parts become one string: leading pictures get a line of their own, as LLaVA writes them; later
# ones stand where the caller put them. `as_string` says the same in Python.
_FLATTEN = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.content is string or not message.content -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set flat.text = '' -%}
{%- set flat.leading = false -%}
{%- for part in message.content -%}
{%- set piece = part.text if part.type == 'text' else 'IMAGE_TOKEN' -%}
{%- if flat.leading and not piece.startswith('\\n') -%}
{%- set flat.text = flat.text + '\\n' -%}
{%- endif -%}
{%- set flat.leading = part.type != 'text' and (loop.first or flat.leading) -%}
{%- set flat.text = flat.text + piece -%}
{%- endfor -%}
{%- set flat.messages = flat.messages + [dict(message, content=flat.text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages %}
"""

_VICUNA = """\
{%- if messages[0].role == 'system' -%}
{{ messages[0].content }}
{%- set messages = messages[1:] -%}
{%- else -%}
A chat between a curious user and an artificial intelligence assistant. \
The assistant gives helpful, detailed, and polite answers to the user's questions.
{%- endif -%}
{{ ' ' }}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{ 'USER: ' + message.content + ' ' }}
{%- elif message.role == 'assistant' -%}
{{ 'ASSISTANT: ' }}{% generation %}{{ message.content + eos_token }}{% endgeneration %}
{%- else -%}
{{ raise_exception('this template knows the roles system, user and assistant, not ' + message.role) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""

_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ message.content + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

# Stage 1 of LLaVA: pictures, then the caption and a line's end, which is what ends it; the prompt's text is dropped.
PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{% generation %}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}
{%- endif -%}
{{ '\\n' }}{% endgeneration %}
{%- elif message.content is not string -%}
{%- for part in message.content if part.type == 'image' -%}{{ image_token | default('<image>') }}{%- endfor -%}
{%- endif -%}
{%- endfor -%}
"""


def with_images(template: str, image_token: str = "<image>", video_token: str | None = None) -> str:
    """A template that takes string content (ChatML, Llama, Mistral, Qwen, …) as one that also takes parts.

    The template itself is untouched; what is put before it turns each list of parts into a string that holds
    `image_token` where a picture stands, and `video_token` where a video does. Works in `transformers` too.
    """
    flatten = _FLATTEN
    if video_token is not None:
        flatten = flatten.replace(
            "else 'IMAGE_TOKEN'", f"else '{video_token}' if part.type == 'video' else 'IMAGE_TOKEN'"
        )
    return flatten.replace("IMAGE_TOKEN", image_token) + template


def as_string(pieces: Sequence[str | None], image_token: str) -> str:
    """Parts as one string, None for a picture: leading pictures get a line of their own, later ones stand bare."""
    text, leading = "", False
    for i, piece in enumerate(pieces):
        shown = image_token if piece is None else piece
        if leading and not shown.startswith("\n"):
            text += "\n"
        leading = piece is None and (i == 0 or leading)
        text += shown
    return text


VICUNA = with_images(_VICUNA)
CHATML = with_images(_CHATML)

TEMPLATES = {"vicuna": VICUNA, "plain": PLAIN, "chatml": CHATML}
