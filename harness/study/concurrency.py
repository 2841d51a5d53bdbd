"""How many cells of a cohort are stepped at once on a GPU."""

from __future__ import annotations

from collections.abc import Collection

from harness.study.recipe import Recipe

# Pre-activations of a step whose kernels fill a large GPU (24,576 latents on 8,192 tokens); the step of a smaller
# cell is mostly kernels that leave it idle, or wait for the one before.
FILLING = 24_576 * 8_192
MOST = 4  # cells at once


def cells_at_once(recipes: Collection[Recipe]) -> int:
    """As many of these cells as fill a GPU together, at least one: no more than their largest one allows."""
    largest = max((recipe.batch * recipe.latents for recipe in recipes), default=FILLING)
    return max(1, min(MOST, len(recipes), FILLING // largest))
