"""The published decoders that a larger model may be made of, and which of them can express a config."""

from eyespot.errors import EyespotError
from eyespot.families import llama, mistral, qwen2, qwen3
from eyespot.families.decoders import DecoderForm
from eyespot.families.family import unsupported
from eyespot.models.decoder import DecoderConfig

DECODERS = (llama.FORM, qwen2.FORM, qwen3.FORM, mistral.FORM)


def named(model_type: str, key: str) -> DecoderForm:
    """The form of a ``model_type``; `key` is where the config says it, for the error."""
    for form in DECODERS:
        if form.model_type == model_type:
            return form
    raise unsupported(key, model_type, ", ".join(form.model_type for form in DECODERS))


def expressing(config: DecoderConfig) -> DecoderForm:
    """The first form that can express a decoder.

    Raises:
        EyespotError: ``layout-unsupported`` with what each form lacks.
    """
    problems = []
    for form in DECODERS:
        try:
            form.write(config)
        except EyespotError as error:
            problems.append(error.message)
        else:
            return form
    raise EyespotError("layout-unsupported", " · ".join(problems))
