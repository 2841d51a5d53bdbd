"""How well an SAE's latents recover features that are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class Recovery:
    """Each from 0, nothing, to 1, perfect; `recovery` says how they are measured."""

    mcc: float
    f1: float
    uniqueness: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@torch.no_grad()
def recovery(codes: Tensor, features: Tensor) -> Recovery:
    """Compare codes [T, N] of an SAE with the true features [T, F] of the same T tokens.

    Features that never fire (value above zero) on these tokens are left out: F counts those that do.

    mcc: mean correlation coefficient (Hyvärinen & Morioka 2016, arXiv 1605.06336): mean over the
    features of |Pearson correlation| over tokens between a feature and the latent that is matched to it.
    The matching is one to one and maximises that mean (Hungarian algorithm). A feature that is left
    unmatched, as some are where N < F, counts 0; so does what is constant, such as a dead latent.

    f1: mean over the features of 2 P R / (P + R), with P and R precision and recall of 'the matched latent
    fires' as a statement about 'the feature fires'; 0 where unmatched.

    uniqueness: number of distinct features among those that correlate best with some latent that fires,
    divided by min(latents that fire, F): below 1 where latents share one feature and leave others to none.

    All are 0 if no feature fires. Both tensors may be of any dtype and lie on any one device.
    """
    codes, features = codes.float(), features.float()
    features = features[:, (features > 0).any(0)]
    if not features.shape[1] or not codes.shape[1]:
        return Recovery(0.0, 0.0, 0.0)
    alike = (_standardised(codes).T @ _standardised(features)).abs().clamp(max=1)  # [N, F]
    latents, matched = (torch.from_numpy(i) for i in linear_sum_assignment(alike.cpu().numpy(), maximize=True))
    latents, matched = latents.to(codes.device), matched.to(codes.device)
    count = features.shape[1]
    return Recovery(
        mcc=float(alike[latents, matched].double().sum() / count),
        f1=float(_f1(codes[:, latents] > 0, features[:, matched] > 0).sum() / count),
        uniqueness=_uniqueness(alike[(codes > 0).any(0)]),
    )


def _standardised(columns: Tensor) -> Tensor:
    """Columns of x [T, n], centred and of unit length, so that products are correlations; constant ones are 0.

    They are brought to a range of 1 first, lest squares under- or overflow in float32. A column is found to be
    constant by its extremes, since rounding leaves something of it after centring.
    """
    low, high = columns.aminmax(dim=0)
    spread = high - low
    scaled = (columns - low) / torch.where(spread > 0, spread, 1)
    centred = scaled - scaled.mean(0, dtype=torch.float64).float()
    length = torch.linalg.vector_norm(centred, dim=0, dtype=torch.float64).float()
    return torch.where(spread > 0, centred / length, 0)


def _f1(said: Tensor, true: Tensor) -> Tensor:
    """F1 [n] of statements [T, n] about the truth [T, n]: 2 TP / (statements + truths)."""
    return 2 * (said & true).sum(0).double() / (said.sum(0) + true.sum(0))


def _uniqueness(alike: Tensor) -> float:
    """From |correlations| [latents that fire, F]."""
    if not len(alike):
        return 0.0
    best, feature = alike.max(dim=1)
    return len(set(feature[best > 0].tolist())) / min(alike.shape)
