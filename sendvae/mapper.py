"""The mapper of Send-VAE: patch embedding, ViT layers, MLP projector.

It stands between latents and teacher, so that the latents need not become the teacher's features: a few layers may
translate. The paper's best depth is one layer; none (an MLP alone) and two are worse.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from vaebench.generation.sit import sincos_positions

HEAD_WIDTH = 64


class Mapper(nn.Module):
    """Latents N x d x h x w to predicted teacher features N x D x h/p x w/p.

    Patch embedding (convolution of stride p) plus fixed 2-D sine-cosine positions; `depth` pre-norm transformer
    layers (GELU MLP of four times the width); an MLP of `projector_layers` linear layers with SiLU between them.
    Position and projector stay the same at depth 0, so that the depth ablation changes one thing. Linear layers start
    Xavier-uniform with zero bias, as in SiT and REPA.
    """

    def __init__(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher_channels: int,
        *,
        depth: int,
        width: int,
        heads: int,
        patch_size: int,
        projector_layers: int,
        projector_hidden: int,
    ) -> None:
        super().__init__()
        self.grid = (latent_grid[0] // patch_size, latent_grid[1] // patch_size)
        self.embedding = nn.Conv2d(latent_channels, width, kernel_size=patch_size, stride=patch_size)
        self.register_buffer("positions", sincos_positions(width, self.grid), persistent=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=4 * width,
                dropout=0.0,
                activation="gelu",
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        widths = [width, *[projector_hidden] * (projector_layers - 1), teacher_channels]
        self.projector = nn.Sequential(nn.Linear(widths[0], widths[1]))
        for before, after in pairwise(widths[1:]):
            self.projector.extend([nn.SiLU(), nn.Linear(before, after)])
        self.apply(_initialise)

    def forward(self, latents: Tensor) -> Tensor:
        """N x d x h x w to N x D x h/p x w/p."""
        tokens = self.embedding(latents).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.projector(tokens).transpose(1, 2).unflatten(2, self.grid)


def default_width(teacher_channels: int) -> int:
    """The teacher's channels, rounded up to whole heads of 64: 768 for a ViT-B (12 heads), 1024 for a ViT-L (16)."""
    return -(-teacher_channels // HEAD_WIDTH) * HEAD_WIDTH


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
