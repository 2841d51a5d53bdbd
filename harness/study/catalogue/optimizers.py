"""The optimizers. Adding one is a function like those of harness/training/optimizers.py, and its entry here.

kept and passing are measured (torch 2.13 on a CPU), and tests/study/test_memory.py holds them against real peaks;
tests/study/test_flops.py holds the FLOPs against the products of real steps.
"""

from __future__ import annotations

from harness.study.catalogue.shapes import Shape
from harness.study.catalogue.specs import OptimizerSpec, registry

SOAP_DIMENSION = (
    512  # longer sides of a matrix are not preconditioned: their eigenbases would cost more than all else
)
SOAP_EVERY = 10  # steps between two of its eigenbases


def orthogonalisation(shape: Shape) -> float:
    """Muon: five Newton-Schulz iterations of three products each."""
    small, large = sorted(shape)
    return 5 * (4 * small * small * large + 2 * small**3)


def preconditioning(shape: Shape) -> float:
    """SOAP, for each side that is preconditioned: three rotations, an outer product, and now and then an
    eigenbasis by a product and a QR decomposition (4/3 d^3 for R, as much for Q)."""
    sides = [side for side in shape if side <= SOAP_DIMENSION]
    return sum(4 * 2 * shape[0] * shape[1] * d + (2 + 8 / 3) * d**3 / SOAP_EVERY for d in sides)


# Adam's and Signum's rates as in EleutherAI's sparsify 1.3. Muon's update is scaled to the size of Adam's
# (harness/optimizers/muon.py); Lion wants 3 to 10 times less than Adam (Chen et al. 2023, arXiv 2302.06675,
# section 5). SGD has no default that would fit more than one problem.
OPTIMIZERS = registry(
    [
        OptimizerSpec(
            name="adam",
            doc="Adam",
            build="harness.training.optimizers:adam",
            default_lr=2e-4,
            kept=2,
            passing=1,
            fused="harness.training.fused_adam:FusedAdam",
        ),
        OptimizerSpec(
            name="adamw",
            doc="Adam with decoupled weight decay on matrices",
            build="harness.training.optimizers:adamw",
            reads=("weight_decay",),
            default_lr=2e-4,
            kept=2,
            passing=1,
            fused="harness.training.fused_adam:FusedAdam",
        ),
        OptimizerSpec(
            name="sparse_adam",
            doc="Adam for rows with a gradient; latents that fire on no token of a batch keep weights and moments",
            build="harness.training.optimizers:sparse_adam",
            default_lr=2e-4,
            kept=2,
            passing=2,
        ),
        OptimizerSpec(
            name="muon",
            doc="Muon for matrices, Adam for the rest",
            build="harness.training.optimizers:muon",
            default_lr=2e-4,
            kept=1,
            passing=3,
            flops=orthogonalisation,
            fused="harness.training.fused_muon:FusedMuon",
        ),
        OptimizerSpec(
            name="soap",
            doc="SOAP for matrices, Adam for the rest",
            build="harness.training.optimizers:soap",
            default_lr=2e-4,
            kept=3,  # two moments, and about one more for the bases
            passing=6,
            gpu_memory=(2.1, 4),
            flops=preconditioning,
        ),
        OptimizerSpec(
            name="schedule_free_adam",
            doc="schedule-free Adam",
            build="harness.training.optimizers:schedule_free_adam",
            default_lr=2e-4,
            kept=2,
            passing=2,
            schedule_free=True,
        ),
        OptimizerSpec(
            name="signum",
            doc="the sign of the gradient, with schedule-free momentum",
            build="harness.training.optimizers:signum",
            default_lr=5e-3,
            kept=1,
            passing=2,
            schedule_free=True,
        ),
        OptimizerSpec(
            name="lion",
            doc="Lion",
            build="harness.training.optimizers:lion",
            default_lr=4e-5,
            kept=1,
            passing=2,
        ),
        OptimizerSpec(
            name="sgd",
            doc="gradient descent with momentum",
            build="harness.training.optimizers:sgd",
            default_lr=None,
            kept=1,
            passing=1,
        ),
    ]
)
