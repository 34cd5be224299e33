"""Every size limit in one table, so that "how much may a stranger's file cost me?" has one answer.

Not a configuration of the model: no limit changes what a picture within it becomes. Functions take ``limits=``, and
``LIMITS.replace(max_pixels=…)`` makes another table; nothing reads a global that a caller cannot override.
"""

from dataclasses import dataclass

from eyespot.contracts.config import Config
from eyespot.errors import EyespotError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits(Config):
    """What a single medium, fetch, template or row may cost before it is refused.

    Attributes:
        max_pixels: width × height of one picture, read from its header before anything is decoded.
        max_side: the longer side of a picture *after* the resize, before the crop (a 60,000 × 2 line scaled to
            a 224-pixel short edge would be 6.7 million pixels long).
        max_images: pictures in one conversation.
        max_frames: frames of one video that a model is shown.
        max_total_pixels: pixels of all pictures and frames in one conversation, of a film's frames as the model gets
            them.
        max_image_bytes: an encoded picture on disk, in memory or inside a ``data:`` URL.
        max_film_bytes: the same of a video or sound file.
        max_film_frames: frames that a video file holds, shown or not.
        max_film_seconds: how long a video file runs.
        max_sound_seconds: how long a sound runs.
        max_url_bytes: the body of one http(s) answer.
        max_url_chars: an http(s) address itself.
        fetch_timeout_s: one fetch in all: name look-up, connection, handshake, headers and body, over redirects.
        max_redirects: hops that an http(s) fetch may follow; each is checked like the first.
        max_template_chars: a chat template's own source.
        max_template_output: characters that a chat template may write.
        template_timeout_s: time that a chat template may take.
        max_text_chars: text of one conversation.
        max_row_bytes: one row of a data file.
        max_config_bytes: one small file of a checkpoint (configuration, index, template, tokenizer).
    """

    max_pixels: int = 64_000_000
    max_side: int = 1_000_000
    max_images: int = 256
    max_frames: int = 768
    max_total_pixels: int = 512_000_000
    max_image_bytes: int = 512 * MIB
    max_film_bytes: int = 8192 * MIB
    max_film_frames: int = 1_000_000
    max_film_seconds: float = 6 * 3600.0
    max_sound_seconds: float = 3600.0
    max_url_bytes: int = 32 * MIB
    max_url_chars: int = 8192
    fetch_timeout_s: float = 10.0
    max_redirects: int = 0
    max_template_chars: int = MIB
    max_template_output: int = 16 * MIB
    template_timeout_s: float = 2.0
    max_text_chars: int = 16 * MIB
    max_row_bytes: int = 64 * MIB
    max_config_bytes: int = 256 * MIB

    def __post_init__(self) -> None:
        """Refuse limits that nothing could satisfy."""
        for name, value in self.to_dict().items():
            if value < 0 or (value == 0 and name != "max_redirects"):
                raise EyespotError("config-value", f"expected a positive number, got {value}", where=f"limits.{name}")


LIMITS = Limits()
