"""Pre-activations, and which of them are large: the two costs of a sparse dictionary's encoder.

A table of pre-activations is read once, for the largest of every `RUN` neighbouring latents, its peaks. Whether
an entry exceeds some bound can then be asked of the peaks, and only the few runs with a peak above it are opened.
Everything here is exact.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

RUN = 16  # float32 values in a cache line
COARSE = 4  # so many groups for each of the k largest entries give a bound close enough
MANY = 3  # one run in so many above the bound: comparing every entry is then faster


@cache
def _onednn() -> bool:
    """Whether to multiply with oneDNN: MKL, torch's own choice on x86, holds back on processors that are not Intel's."""
    return "AVX" in torch.backends.cpu.get_cpu_capability() and bool(torch._C._has_mkldnn)


def product(x: Tensor, rows: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ rows.T + bias``: (n, D) and (F, D) give (n, F). No gradients; as exact as `torch.addmm`."""
    if x.device.type == "cpu" and x.dtype == rows.dtype == torch.float32 and len(x) and _onednn():
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, rows, bias, "none", [], "")
        return found
    return x @ rows.t() if bias is None else torch.addmm(bias, x, rows.t())


def above(pre: Tensor, bound: Tensor | float, peaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The entries of ``pre`` (n, F) that are greater than ``bound``.

    Args:
        pre: contiguous.
        bound: one for all, one for each latent (F,), or one for each row (n, 1).
        peaks: what `run_peaks` gives, where it is known already.

    Returns:
        Their values (entries,) and their places in the flattened table (entries,) int64, ascending.
    """
    width = pre.shape[1]
    peaks = run_peaks(pre) if peaks is None else peaks
    if peaks is not None:
        runs = width // RUN
        each = isinstance(bound, Tensor) and bound.dim() == 1
        lowest = bound.view(runs, RUN).amin(dim=1) if isinstance(bound, Tensor) and each else bound
        opened = (peaks > lowest).flatten().nonzero().squeeze(1)
        if len(opened) * MANY <= peaks.numel():
            entries = pre.view(-1, RUN).index_select(0, opened)
            if isinstance(bound, Tensor):
                bound = bound.view(runs, RUN)[opened % runs] if each else bound.expand(len(pre), 1)[opened // runs]
            hits = (entries > bound).flatten().nonzero().squeeze(1)
            return entries.flatten()[hits], opened[hits // RUN] * RUN + hits % RUN
    places = (pre > bound).flatten().nonzero().squeeze(1)
    return pre.flatten()[places], places


def run_peaks(pre: Tensor) -> Tensor | None:
    """The largest of each `RUN` neighbouring entries of the rows of ``pre`` (n, F): (n, F / RUN); None if uneven."""
    count, width = pre.shape
    if width % RUN or not pre.numel():
        return None
    return max_pool1d(pre.view(count, 1, width), RUN).view(count, width // RUN)


def topk(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest entries of each row of ``pre`` (n, F), in no order: values and indices (n, k).

    The k-th largest of the maxima of any groups is a lower bound of the k-th largest entry, and where there are
    a few groups for each of the k it is a close one: what exceeds it is not many more than k entries. Equal
    values at the border are interchangeable, as in `torch.topk`.
    """
    count, width = pre.shape
    peaks = run_peaks(pre) if width >= 2 * RUN * k else None
    if peaks is None:
        values, indices = pre.topk(k, dim=1, sorted=False)
        return values, indices
    groups = peaks.shape[1]
    while groups % 2 == 0 and groups >= 2 * COARSE * k:
        groups //= 2
    least = peaks.view(count, -1, groups).amax(dim=1).topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    # An entry that equals the bound may be one of the k; the next float below turns "greater" into "not less".
    values, places = above(pre, torch.nextafter(least, least.new_tensor(-torch.inf)), peaks)
    return _largest(values, places, count, width, k) or pre.topk(k, dim=1, sorted=False)


def _largest(values: Tensor, places: Tensor, count: int, width: int, k: int) -> tuple[Tensor, Tensor] | None:
    """The k largest of each row's listed entries; None where a row has fewer, as with entries that are no numbers."""
    rows = places // width
    listed = torch.bincount(rows, minlength=count)
    fewest, most = torch.aminmax(listed)
    if int(fewest) < k:
        return None
    begins = listed.cumsum(0) - listed
    table = values.new_full((count, int(most)), -torch.inf)
    table[rows, torch.arange(len(rows), device=rows.device) - begins[rows]] = values
    found, at = table.topk(k, dim=1, sorted=False)
    return found, places[at + begins[:, None]] % width
