"""The sparsifiers. Adding one is a subclass of harness.sae.sparsifiers.Sparsifier, and its entry here.

memory is measured (torch 2.13 on a CPU), and tests/study/test_memory.py holds it against real peaks; gpu_memory
counts tensors, and tests/study/test_gpu_memory.py holds it against a GPU's.
"""

from __future__ import annotations

from harness.study.catalogue.specs import SparsifierSpec, registry

SPARSIFIERS = registry(
    [
        SparsifierSpec(
            name="topk",
            doc="the k largest of each token",
            build="harness.sae.sparsifiers:TopK",
            memory=1.5,
            shortlisted=True,
        ),
        SparsifierSpec(
            name="batchtopk",
            doc="the k·B largest of a batch of B tokens; a threshold once trained",
            build="harness.sae.sparsifiers:BatchTopK",
            memory=2.5,
            gpu_memory=(1.25, 1.0, 3.5),  # maxima of groups; measured: with what is below the threshold masked
            calibrated=True,
        ),
        SparsifierSpec(
            name="relu",
            doc="all that is positive, with an L1 cost",
            build="harness.sae.sparsifiers:ReLU",
            reads=("sparsity",),
            memory=10.0,
            gpu_memory=(2.0, 4.0, 3.0),  # values of all latents; the gradients of both
            holds_k=False,
            full_products=True,
            needs_unit_norm=True,
        ),
        SparsifierSpec(
            name="jumprelu",
            doc="all above learned thresholds, with a cost for an L0 other than k",
            build="harness.sae.sparsifiers:JumpReLU",
            reads=("sparsity",),
            memory=6.5,
            gpu_memory=(2.0, 4.0, 4.0),  # as for relu; measured: with scores, while thresholds are set
            calibrated=True,
            parameters=1,  # thresholds
            full_products=True,
        ),
    ]
)
