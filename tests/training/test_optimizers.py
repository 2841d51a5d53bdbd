"""Single rules against their formulas; what all of them keep is in tests/conformance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from harness.optimizers.muon import MOMENTUM, RMS, Muon, orthogonalise
from harness.sae.roles import MATRICES, Role, parameter_roles
from harness.training.optimizers import OPTIMIZERS, averaged_weights, build_optimizers, learning_rate
from tests.sae.references import build
from tests.training.cells import recipe


class Made(TorchDispatchMode):
    """Counts the tensors of zeros that are made within."""

    zeros = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.zeros += function.overloadpacket in (torch.ops.aten.zeros_like, torch.ops.aten.zeros)
        return function(*args, **(kwargs or {}))


GRADS = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_state_is_made_once_and_not_at_every_step(optimizer):
    sae = build("dense 2-2")
    optimizers = build_optimizers(recipe(optimizer=optimizer), sae)

    def step() -> int:
        for parameter in sae.parameters():
            parameter.grad = torch.ones_like(parameter)
        with Made() as made:
            for one in optimizers:
                one.step()
        return made.zeros

    step()
    assert [step() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("shape", [(8, 8), (5, 17), (30, 4), (1, 7)])
def test_orthogonalise_pulls_all_singular_values_to_one(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    inner = u.T @ result @ v.T  # diagonal, near 1: same singular vectors, other singular values
    large = s > 0.1 * s.max()  # the quintic needs more iterations for the smallest ones
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-3)
    assert ((inner.diagonal()[large] > 0.6) & (inner.diagonal()[large] < 1.3)).all()


def test_muon_steps_along_the_orthogonalised_nesterov_momentum():
    weight = torch.nn.Parameter(torch.zeros(3, 5))
    optimizer = Muon([weight], lr=0.1)
    momentum = expected = torch.zeros(3, 5)
    for grad in GRADS:
        weight.grad = grad.clone()
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * grad
        blend = (1 - MOMENTUM) * grad + MOMENTUM * momentum
        expected = expected - 0.1 * RMS * 5**0.5 * orthogonalise(blend)
    assert torch.allclose(weight, expected, atol=1e-6)


def test_muon_refuses_anything_but_matrices():
    with pytest.raises(ValueError, match="matrices only"):
        Muon([torch.nn.Parameter(torch.zeros(2, 3, 4))], lr=1.0)


class One(torch.nn.Module):
    """A matrix [3, 5] that starts at ones."""

    ROLES = {"weight": Role.HIDDEN}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 5))


def stepped(name, **changes):
    """The matrix after GRADS at rate 0.1, in training and as it is evaluated."""
    model = One()
    optimizers = build_optimizers(recipe(optimizer=name, lr=0.1, **changes), model)
    for grad in GRADS:
        model.weight.grad = grad.clone()
        for optimizer in optimizers:
            if optimizer.param_groups[0]["params"]:
                optimizer.step()
    trained = model.weight.detach().clone()
    with averaged_weights(optimizers):
        return trained, model.weight.detach().clone()


def adam_steps(start, grads, decay=0.0):
    """Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; decoupled decay as in Loshchilov & Hutter 2019."""
    weight, first, second = start.clone(), 0, 0
    for step, grad in enumerate(grads, start=1):
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        weight = weight - 0.1 * decay * weight - 0.1 * update
    return weight


def lion_steps(start, grads):
    """Chen et al. 2023 (arXiv 2302.06675), algorithm 2, without decay."""
    weight, momentum = start.clone(), torch.zeros_like(start)
    for grad in grads:
        weight = weight - 0.1 * (0.9 * momentum + 0.1 * grad).sign()
        momentum = 0.99 * momentum + 0.01 * grad
    return weight


def sgd_steps(start, grads):
    weight, momentum = start.clone(), torch.zeros_like(start)
    for grad in grads:
        momentum = 0.9 * momentum + grad
        weight = weight - 0.1 * momentum
    return weight


REFERENCES = {
    "adam": adam_steps,
    "adamw": lambda start, grads: adam_steps(start, grads, decay=0.5),
    "lion": lion_steps,
    "sgd": sgd_steps,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_steps_are_those_of_the_source(name):
    trained, evaluated = stepped(name, weight_decay=0.5)
    assert torch.allclose(trained, REFERENCES[name](torch.ones(3, 5), GRADS), atol=1e-5)
    assert torch.equal(trained, evaluated)


def test_signum_averages_steps_along_the_sign():
    """Defazio et al. 2024 (arXiv 2405.15682), equations 3 to 5: y = (1 - b) z + b x, z steps, x averages."""
    z = x = y = torch.ones(3, 5)
    for step, grad in enumerate(GRADS, start=1):
        z = z - 0.1 * grad.sign()
        x = x + (z - x) / step
        y = 0.05 * z + 0.95 * x
    trained, evaluated = stepped("signum")
    assert torch.allclose(trained, y, atol=1e-5)
    assert torch.allclose(evaluated, x, atol=1e-5)


def test_schedule_free_adam_averages_steps_scaled_as_in_adam():
    """The same with steps along the gradient over the root of its second moment."""
    z = x = torch.ones(3, 5)
    second = 0
    for step, grad in enumerate(GRADS, start=1):
        second = 0.999 * second + 0.001 * grad**2
        z = z - 0.1 * grad / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        x = x + (z - x) / step
    trained, evaluated = stepped("schedule_free_adam")
    assert torch.allclose(trained, 0.1 * z + 0.9 * x, atol=1e-5)
    assert torch.allclose(evaluated, x, atol=1e-5)


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_matrices_get_the_rule_of_matrices_by_their_role(name):
    sae = build("dense 2-2", "jumprelu")
    roles = parameter_roles(sae)
    role_of = {id(p): roles[n] for n, p in sae.named_parameters()}
    special, rest = build_optimizers(recipe(optimizer=name), sae)
    assert {role_of[id(p)] for p in special.param_groups[0]["params"]} == MATRICES
    assert {role_of[id(p)] for p in rest.param_groups[0]["params"]} == {Role.BIAS, Role.GAIN, Role.THRESHOLD}
    assert isinstance(rest, torch.optim.Adam)


def test_adamw_decays_matrices_only():
    sae = build("dense 2-2", "jumprelu")
    (optimizer,) = build_optimizers(recipe(optimizer="adamw", lr=0.1, weight_decay=0.5), sae)
    before = {name: p.detach().clone() for name, p in sae.named_parameters()}
    for parameter in sae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, role in parameter_roles(sae).items():
        factor = 1 - 0.1 * 0.5 if role in MATRICES else 1.0
        assert torch.allclose(sae.get_parameter(name), factor * before[name]), name


def test_the_learning_rate_is_a_trapezoid():
    made = recipe(tokens=320, lr=1.0, warmup=0.2, decay=0.5)
    rates = [learning_rate(step, made) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("name", [name for name, rule in OPTIMIZERS.items() if rule.schedule_free])
def test_a_schedule_free_rate_stays_up(name):
    made = recipe(tokens=320, lr=1.0, warmup=0.2, decay=0.5, optimizer=name)
    assert [learning_rate(step, made) for step in range(10)] == pytest.approx([0.5, *[1] * 9])


@given(st.sampled_from(sorted(OPTIMIZERS)), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_is_never_zero_nor_above_its_peak(name, steps, warmup, share):
    made = recipe(optimizer=name, tokens=32 * steps, lr=2.0, warmup=warmup, decay=share * (1 - warmup))
    assert all(0 < learning_rate(step, made) <= 2.0 for step in range(steps))


def test_a_rate_that_is_left_out_is_the_optimizers_own():
    made = recipe(lr=None, latents=2**12, optimizer="signum", warmup=0.0)
    assert learning_rate(5, made) == pytest.approx(2 * 5e-3)
