"""Picture–text pairs for contrastive learning, through the same loader as everything else.

A pair is an `Encoded` whose tokens are the padded text and whose picture has no slots; as all are equally long, a
packed batch of them is cut into rows at its edge (D4). The text is the last answer of the conversation: a caption.
"""

from typing import Any

import numpy as np

from eyespot.contracts.encoded import Encoded
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example
from eyespot.contracts.shapes import Int, Tensor
from eyespot.errors import EyespotError
from eyespot.inputs.contrastive import text_ids
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image


class PairProcessor:
    """Has the `encode_example` that a loader calls; picklable, no model.

    Args:
        processor: of a dual encoder, whose texts have a largest length.
    """

    def __init__(self, processor: Any) -> None:
        rule = processor.contract.text
        if rule.max_length is None or processor.contract.image is None:
            raise EyespotError("not-supported", "contrastive learning needs a dual encoder (max_length, image rule)")
        self.tokenizer, self.rule, self.image = (
            processor.tokenizer,
            rule.replace(pad_to_max=True),
            processor.contract.image,
        )

    @property
    def length(self) -> int:
        """Tokens of every text."""
        return self.rule.max_length

    def encode_example(self, example: Example, *, source: str = "", root: Any = None, **_: Any) -> Encoded:
        """The first picture and the last answer of a conversation.

        Raises:
            EyespotError: ``row-malformed`` where either is missing, and what decoding raises.
        """
        pictures = [medium for message in example.messages for medium in message.media]
        answers = [message.text for message in example.messages if message.role == "assistant"]
        if not pictures or not answers or not answers[-1].strip():
            raise EyespotError("row-malformed", "a pair needs a picture and an answer", where=example.id)
        given = pictures[0].source if isinstance(pictures[0], MediaRef) else pictures[0]
        medium = prepare_image(decode_image(given, root=root, rule=self.image), self.image)
        ids = text_ids([answers[-1]], self.tokenizer, self.rule)[0]
        return Encoded(example.id, source, ids, np.ones(len(ids), dtype=np.float32), media=(medium,))


def rows_of(batch: Any) -> Int[Tensor, "B l"]:
    """The texts of a packed batch of pairs, one row each."""
    return batch.input_ids.unflatten(0, (len(batch.sample_ids), -1))
