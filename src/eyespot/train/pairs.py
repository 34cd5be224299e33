"""Picture–text pairs for contrastive learning, through the same loader as everything else.

A pair is an `Encoded` whose tokens are the padded text and whose picture has no slots; as all are equally long, a
packed batch of them is cut into rows at its edge (D4). The text is the last answer of the conversation: a caption.
"""

from typing import Any

import numpy as np

from eyespot.contracts.encoded import Encoded
from eyespot.contracts.media import Media
from eyespot.contracts.message import Example
from eyespot.contracts.shapes import Int, Tensor
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image


class PairProcessor:
    """Has the `encode_example` that a loader calls; picklable, no model.

    Args:
        processor: of a dual encoder.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    @property
    def length(self) -> int:
        """Tokens of every text."""
        return int(self.processor.encode_texts(["x"]).shape[1])

    def encode_example(self, example: Example, *, source: str = "", root: Any = None, **_: Any) -> Encoded:
        """The first picture and the last answer of a conversation.

        Raises:
            EyespotError: ``row-malformed`` where either is missing.
        """
        pictures = [medium for message in example.messages for medium in message.media]
        answers = [message.text for message in example.messages if message.role == "assistant"]
        if not pictures or not answers or not answers[-1].strip():
            raise EyespotError("row-malformed", "a pair needs a picture and an answer", where=example.id)
        picture = pictures[0] if isinstance(pictures[0], Media) else decode_image(pictures[0].source, root=root)
        ids = self.processor.encode_texts([answers[-1]])[0].numpy().astype(np.int64)
        medium = prepare_image(picture, self.processor.contract.image)
        weight = np.ones(len(ids), dtype=np.float32)
        return Encoded(example.id, source, ids, weight, media=(medium,))


def rows_of(batch: Any) -> Int[Tensor, "B l"]:
    """The texts of a packed batch of pairs, one row each."""
    return batch.input_ids.unflatten(0, (len(batch.sample_ids), -1))
