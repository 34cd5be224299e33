"""SigLIP 2 in native aspect (NaFlex; Tschannen et al. 2025): SigLIP whose pictures keep their aspect.

What differs from `siglip`: a picture is as large as a number of patches allows, so grids differ; the position table is
resized to each (bilinear, antialiased); and the patch map takes a patch as (row, column, channel). SigLIP 2 of one
picture size is published as `siglip`. Numerics: `transformers` modeling_siglip2.py.
"""

from typing import Any

from eyespot.families import siglip
from eyespot.families.towers import SIGLIP2_VISION
from eyespot.models.encoders.vit import VitConfig


def tiny() -> dict[str, Any]:
    """SigLIP's, with a table of 3 × 3 patches that no picture need have."""
    own = {"interpolate_positions": True, "position_filter": "bilinear", "image_size": (12, 12), "patch_size": 4}
    return {
        name: config.replace(**own)
        if isinstance(config, VitConfig)
        else config.replace(vision=config.vision.replace(**own))
        for name, config in siglip.tiny().items()
    }


FAMILY = siglip.SiglipForm("siglip2", SIGLIP2_VISION).family(tiny)
