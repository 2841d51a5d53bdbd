"""What a transcoder costs follows from both of its widths."""

import pytest

from harness.study.catalogue import SPARSIFIERS, parse_layers
from harness.study.flops import flops_per_token
from harness.study.plan import cost
from harness.study.recipe import Recipe
from tests.sae.references import LATENTS, LAYERS, WIDTH, K, build
from tests.study.test_flops import BASE, PARTS, counted, plain  # noqa: F401 (a fixture)

OUT = 4  # of the targets where the inputs have WIDTH


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_the_plan_counts_its_parameters_and_its_layers_have_the_widths_of_their_sides(layers, sparsifier):
    sae, parsed = build(layers, sparsifier, target_width=OUT), parse_layers(layers)
    recipe = Recipe(latents=LATENTS, k=K, tokens=2048, layers=layers, sparsifier=sparsifier, sparsity=1.0)
    assert cost(recipe, WIDTH, target_width=OUT).parameters == sum(p.numel() for p in sae.parameters())
    for coder in sae.stack():
        assert coder.encoder.shape[1] == WIDTH * (parsed.encoder[-1] if parsed.encoder else 1)
        assert coder.decoder.shape[1] == OUT * (parsed.decoder[0] if parsed.decoder else 1)


@pytest.mark.parametrize("part", PARTS)
def test_what_a_recipe_says_is_what_a_step_computes(part):
    """All coders read the data, which needs no gradient, and write to other rows than they read."""
    recipe = Recipe(**{**BASE, "dead_window": 10**6, **PARTS[part]})
    width, out = 64, 160
    assert flops_per_token(recipe, width, out) == pytest.approx(counted(recipe, 1, width, out), rel=0.02)


def test_memory_grows_with_the_target():
    recipe = Recipe(latents=1024, k=8, tokens=4096, batch=4096)
    small, same, large = (cost(recipe, 64, target_width=out).bytes for out in (16, 64, 256))
    assert small < same < large
    assert cost(recipe, 64).bytes < same < 1.1 * cost(recipe, 64).bytes  # the target beside the input
