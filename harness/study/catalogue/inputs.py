"""What an SAE may be given of activations, which come centred and scaled to unit variance.

Adding one is a subclass of harness.training.inputs.Inputs, and its entry here.
"""

from __future__ import annotations

from harness.study.catalogue.specs import InputsSpec, registry

INPUTS = registry(
    [
        InputsSpec(
            name="centred",
            doc="activations less their mean, all scaled by one number",
            build="harness.training.inputs:Centred",
        ),
        InputsSpec(
            name="uncentred",
            doc="activations with their mean, all scaled by one number",
            build="harness.training.inputs:Uncentred",
        ),
        InputsSpec(
            name="standardised",
            doc="centred activations, each dimension scaled to unit variance",
            build="harness.training.inputs:Standardised",
        ),
        InputsSpec(
            name="unit_norm",
            doc="centred activations, each token scaled to one norm",
            build="harness.training.inputs:UnitNorm",
            per_token=True,
        ),
        InputsSpec(
            name="layer_norm",
            doc="activations with their mean, each token less its own mean over dimensions and scaled to one norm",
            build="harness.training.inputs:LayerNorm",
            per_token=True,
        ),
    ]
)
