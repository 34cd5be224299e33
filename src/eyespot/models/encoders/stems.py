"""From raw patches to the encoder's width: one linear map, or stride-2 convolutions over the folded picture."""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError

Grids = tuple[tuple[int, int, int], ...]


class PatchStem(nn.Module):
    """A convolution with kernel = stride = patch, as the linear map that it is: weight (E, channels · p · p)."""

    def __init__(self, channels: int, patch_size: int, size: int, bias: bool, _: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.proj = nn.Linear(channels * patch_size**2, size, bias=bias)

    def forward(self, patches: Float[Tensor, "P F"], grids: Grids) -> Float[Tensor, "P E"]:
        """Embed each patch."""
        return self.proj(patches.to(self.proj.weight.dtype))


class ConvStem(nn.Module):
    """Stride-2 3 × 3 convolutions with GELU down to the patch grid (Xiao et al. 2021, "Early convolutions").

    Small transformers learn to see several times faster with it than with a patch map. Patches are folded back into
    pictures, equal grids together.
    """

    def __init__(self, channels: int, patch_size: int, size: int, bias: bool, widths: tuple[int, ...]) -> None:
        super().__init__()
        if patch_size != 2 ** (len(widths) + 1):
            message = (
                f"{len(widths) + 1} stride-2 convolutions make patches of {2 ** (len(widths) + 1)}, not {patch_size}"
            )
            raise EyespotError("config-value", message, where="stem_channels")
        ins, outs = (channels, *widths), (*widths, size)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=2, padding=1, bias=bias) for i, o in zip(ins, outs, strict=True)
        )
        self.channels, self.patch_size = channels, patch_size

    def forward(self, patches: Float[Tensor, "P F"], grids: Grids) -> Float[Tensor, "P E"]:
        """Fold, convolve, and pack the grid cells again in row-major order."""
        patches = patches.to(self.convs[0].weight.dtype)
        if len(set(grids)) == 1:
            return self._pictures(patches.unflatten(0, (len(grids), -1)), grids[0]).flatten(0, 1)
        parts = patches.split([t * h * w for t, h, w in grids])
        same: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for i, grid in enumerate(grids):
            same[grid].append(i)
        out: dict[int, Tensor] = {}
        for grid, members in same.items():
            made = self._pictures(torch.stack([parts[i] for i in members]), grid)
            out.update(zip(members, made, strict=True))
        return torch.cat([out[i] for i in range(len(grids))])

    def _pictures(self, x: Float[Tensor, "B n F"], grid: tuple[int, int, int]) -> Float[Tensor, "B n E"]:
        t, h, w = grid
        p, c = self.patch_size, self.channels
        x = x.view(len(x) * t, h, w, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(len(x) * t, c, h * p, w * p)
        x = x.contiguous(memory_format=torch.channels_last)
        for conv in self.convs[:-1]:
            x = F.gelu(conv(x))
        x = self.convs[-1](x)
        return x.permute(0, 2, 3, 1).reshape(-1, t * h * w, x.shape[1])
