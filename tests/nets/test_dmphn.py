"""DMPHN: how its levels hang together, and what its authors' own weights make of their own photo."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from deblur_cli.cli import main
from deblur_cli.nets.dmphn import DMPHN, DMPHNConfig, join, split

PUBLISHED = Path(os.environ.get("DEBLUR_PUBLISHED", "")) / "dmphn-1-2-4"
"""Where the authors' weights, a blurred frame and the authors' own result for it lie; they are not ours to pass on."""
GRIDS = [(1, 1), (2, 1), (2, 2), (4, 2)]


def small(levels):
    torch.manual_seed(0)
    return DMPHN(DMPHNConfig(width=4, levels=levels)).eval()


@pytest.mark.parametrize("grid", GRIDS)
def test_joining_undoes_splitting_bit_for_bit(grid):
    image = torch.rand(2, 3, 16, 24)
    patches = split(image, *grid)
    assert patches.shape == (2 * grid[0] * grid[1], 3, 16 // grid[0], 24 // grid[1])
    assert torch.equal(join(patches, *grid), image)


def test_patches_are_laid_out_row_by_row_and_image_by_image():
    image = torch.arange(2 * 4 * 2).reshape(2, 1, 4, 2)
    assert split(image, 4, 2).flatten().tolist() == list(range(16))
    assert torch.equal(split(image, 2, 1)[1], image[0, :, 2:])


def by_hand(net, image):
    """The paper's figure 2, one patch at a time."""
    parts = {name: net.get_submodule(name) for name in dict(net.named_children())}

    def decode(level, features):
        decoder = parts[f"decoder_lv{level}"]
        for layer in decoder.children():
            features = layer(features)
        return features

    shifted, change, below = image - 0.5, 0, None
    for level in range(net.config.levels, 0, -1):
        rows, columns = GRIDS[level - 1]
        seen = shifted + change
        bands = []
        for band in seen.chunk(rows, dim=2):
            encoded = [parts[f"encoder_lv{level}"](patch) for patch in band.chunk(columns, dim=3)]
            bands.append(torch.cat(encoded, dim=3))
        features = torch.cat(bands, dim=2)
        features = features if below is None else features + below
        rows, columns = GRIDS[max(level - 2, 0)]
        bands = []
        for band in features.chunk(rows, dim=2):
            bands.append(torch.cat([decode(level, patch) for patch in band.chunk(columns, dim=3)], dim=3))
        change, below = torch.cat(bands, dim=2), features
    return change + 0.5


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_levels_hang_together_as_in_the_paper(levels):
    net = small(levels)
    blurred = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(net(blurred)[0], by_hand(net, blurred), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("levels", "multiple"), [(1, 4), (2, 8), (3, 8), (4, 16)])
def test_the_finest_patches_of_the_smallest_image_have_a_legal_size(levels, multiple):
    net = small(levels)
    assert net.config.multiple_of == multiple
    rows, columns = GRIDS[levels - 1]
    assert multiple % (4 * rows) == 0
    assert multiple % (4 * columns) == 0


def test_the_prior_of_a_patch_is_that_of_its_own_place():
    """Where only the upper half of the prior's maps says anything, the lower half of the image stays as it was."""
    torch.manual_seed(0)
    net = DMPHN(replace(small(3).config, prior=_prior())).eval()
    plain = DMPHN(net.config.__class__(width=4, levels=3))
    plain.load_state_dict(
        {key: each for key, each in net.state_dict().items() if not key.startswith(("prior", "embed"))}
    )
    for fusion in net.embed.fuse:
        torch.nn.init.ones_(fusion.change.weight)
    net.embed.register_forward_hook(lambda _module, _input, maps: [_upper(each) for each in maps])
    blurred = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        change = (net(blurred)[0] - plain.eval()(blurred)[0]).abs().amax(dim=(0, 1, 3))
    # The finest levels see patches of half the height, and the coarsest what lies beside.
    assert change[:16].min() > 0
    assert change[48:].max() < 0.2 * change[:16].max()


def _prior():
    from deblur_cli.nets.prior import PriorConfig

    return PriorConfig(widths=(3, 4, 5), channels=(4, 4, 4), blocks=(0, 0, 0), fusion="add")


def _upper(each):
    height = each.shape[-2] // 2
    return F.pad(torch.ones_like(each)[..., :height, :], (0, 0, 0, each.shape[-2] - height))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="DEBLUR_PUBLISHED names no folder with the authors' weights")
def test_the_authors_weights_give_the_authors_result(tmp_path):
    out = tmp_path / "restored.png"
    with pytest.raises(SystemExit) as stop:
        main([str(PUBLISHED / "blurred-000003.png"), "--weights", str(PUBLISHED), "--tile", "0", "-o", str(out)])
    assert not stop.value.code
    ours, theirs = (
        np.asarray(Image.open(path).convert("RGB"), np.float64)
        for path in (out, PUBLISHED / "authors-output-000003.png")
    )
    # Theirs is cut to 8 bit where ours is rounded: no pixel may differ by more than one step.
    assert np.abs(ours - theirs).max() <= 1
    assert 10 * np.log10(255**2 / np.square(ours - theirs).mean()) > 45
