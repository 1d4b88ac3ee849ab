"""Laws are for extrapolation: fit the cheap runs, predict the dear ones, and count the error."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws.errors import Array, LawError, columns
from scaling.laws.fit import fit_law
from scaling.laws.frontier import Index


@dataclass(frozen=True)
class HoldOut:
    """A law fitted to the runs below C = `below` (FLOPs) and tried on the others, in order of their C.

    `scale_up`: C of each run held out over the largest C fitted. `error`: (predicted - seen) / seen, so
    positive is too pessimistic. `are` is the mean |error|, `bias` the mean error, `naive` the mean |error| of
    repeating the loss of the nearest run fitted (in log N, log D). `covered` is the share inside [low, high],
    the interval at `level` of a new run (law and noise); nan and empty without bootstrap. Errors are
    fractions, loss nats. `warnings` are those of the fit.
    """

    below: float
    fitted: int
    params: dict[str, float]
    C: Array
    scale_up: Array
    loss: Array
    predicted: Array
    error: Array
    low: Array
    high: Array
    level: float
    are: float
    bias: float
    naive: float
    covered: float
    warnings: tuple[str, ...]

    def by_scale_up(self, edges: Sequence[float] = (1, 3, 10, 30, 100, np.inf)) -> list[dict[str, float]]:
        """Mean |error| and mean error per range of scale-up factor; ranges without a run are left out."""
        table = []
        for low, high in pairwise(edges):
            rows = (self.scale_up >= low) & (self.scale_up < high)
            if rows.any():
                are, bias = float(np.abs(self.error[rows]).mean()), float(self.error[rows].mean())
                table.append({"from": low, "to": high, "runs": int(rows.sum()), "are": are, "bias": bias})
        return table


def hold_out(
    N: ArrayLike,
    D: ArrayLike,
    C: ArrayLike,
    loss: ArrayLike,
    *,
    below: Sequence[float] | None = None,
    U: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    bootstrap: int = 0,
    seed: int = 0,
    **fit: Any,
) -> list[HoldOut]:
    """One `HoldOut` per threshold in `below` (FLOPs; default the C that leave 1/2, 1/4 and 1/8 of runs out).

    N parameters, D tokens, C FLOPs, loss nats per token; U (unique tokens), weights and groups have one entry
    a run, other keywords go to `fit_law` as they are. With `bootstrap` refits each prediction has an interval
    (`LawFit.predict_interval`, noise included). Raises LawError where a threshold leaves nothing to predict,
    or fewer runs than the law has parameters.
    """
    n, d, c, y = columns(3, N=N, D=D, C=C, loss=loss)
    if not 0 < level < 1:
        raise LawError(f"level = {level}: a number between 0 and 1, as .95")
    each = {"U": U, "weights": weights, "groups": groups}
    by_run = {k: np.asarray(v) for k, v in each.items() if v is not None}
    for name, column in by_run.items():
        if column.shape != n.shape:
            raise LawError(f"{name} has shape {column.shape}, N has {n.shape}: one entry a run")
    thresholds = [float(np.quantile(c, q)) for q in (0.5, 0.75, 0.875)] if below is None else list(below)
    results = []
    for threshold in thresholds:
        train, test = np.flatnonzero(c < threshold), np.flatnonzero(c >= threshold)
        test = test[np.argsort(c[test], kind="stable")]
        if not len(train) or not len(test):
            raise LawError(
                f"below = {threshold:g} FLOPs leaves {len(train)} runs to fit and {len(test)} to predict: "
                f"C goes from {c.min():g} to {c.max():g}"
            )
        columns_of_train: dict[str, Any] = {k: v[train] for k, v in by_run.items()}
        law = fit_law(n[train], d[train], y[train], bootstrap=bootstrap, seed=seed, **columns_of_train, **fit)
        u = by_run["U"][test] if "U" in by_run else None
        predicted = law.predict(n[test], d[test], u)
        low, high = np.empty(0), np.empty(0)
        if bootstrap:
            low, high = law.predict_interval(n[test], d[test], u, level=level, noise=True, seed=seed)
        nearest = _nearest(np.log([n, d]), train, test)
        error = (predicted - y[test]) / y[test]
        results.append(
            HoldOut(
                below=float(threshold),
                fitted=len(train),
                params=dict(law.params),
                C=c[test],
                scale_up=c[test] / c[train].max(),
                loss=y[test],
                predicted=predicted,
                error=error,
                low=low,
                high=high,
                level=level,
                are=float(np.abs(error).mean()),
                bias=float(error.mean()),
                naive=float(np.abs(y[nearest] / y[test] - 1).mean()),
                warnings=tuple(law.warnings),
                covered=float(np.mean((low <= y[test]) & (y[test] <= high))) if bootstrap else float("nan"),
            )
        )
    return results


@dataclass(frozen=True)
class HitchhikerAre:
    """Absolute relative error in percent of the largest model's late checkpoints, by share of tokens seen.

    `fraction` of the largest D among the `train` models, by `are` (percent; nan where a fraction leaves fewer
    points than parameters). `params` and `warnings` are those of the last fit.
    """

    target: str
    train: tuple[str, ...]
    fraction: Array
    are: Array
    points: Array
    params: dict[str, float]
    warnings: tuple[str, ...]


def hitchhiker_are(
    model: ArrayLike,
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    *,
    k: int = 3,
    fractions: Sequence[float] = tuple(np.arange(1, 11) / 10),
    drop_tokens: float = 1e10,
    tail: float = 0.7,
) -> HitchhikerAre:
    """Choshen et al. 2024 (A Hitchhiker's Guide to Scaling Law Estimation), section 4, to the letter.

    Rows are checkpoints: model name, N parameters, D tokens seen, loss. The largest model is the target, the
    `k` smallest are fitted: checkpoints with D > `drop_tokens` and D < fraction x the largest D among them,
    by least squares on linear loss, L = E + A/N^alpha + B/D^beta. Scored on the target's checkpoints with D
    >= `tail` x its largest. Their protocol ends in one number a cell without interval; use `hold_out` for an
    answer. Raises LawError where k leaves no target or fewer than three sizes (two cannot identify five
    parameters).
    """
    n, d, y = columns(5, N=N, D=D, loss=loss)
    names = np.atleast_1d(np.asarray(model)).astype(str)
    if len(names) != len(n):
        raise LawError(f"columns differ in length: model has {len(names)}, N has {len(n)}")
    by_size = sorted({str(name) for name in names}, key=lambda name: n[names == name].max())
    if not 3 <= k < len(by_size):
        raise LawError(f"k = {k}: between 3 (fewer sizes do not identify five parameters) and {len(by_size) - 1}")
    target, chosen = by_size[-1], by_size[:k]
    test = names == target
    test &= d >= tail * d[test].max()
    train = np.isin(names, chosen)
    longest, train = d[train].max(), train & (d > drop_tokens)
    are, points, params, warnings = [], [], dict[str, float](), tuple[str, ...]()
    for fraction in fractions:
        rows = train & (d < fraction * longest)
        points.append(int(rows.sum()))
        if rows.sum() < 5:
            are.append(float("nan"))
            continue
        law = fit_law(n[rows], d[rows], y[rows], law="chinchilla", objective="mse")
        params, warnings = dict(law.params), tuple(law.warnings)
        are.append(float(100 * np.mean(np.abs(law.predict(n[test], d[test]) / y[test] - 1))))
    return HitchhikerAre(target, tuple(chosen), np.array(fractions), np.array(are), np.array(points), params, warnings)


def _nearest(at: Array, train: Index, test: Index) -> Index:
    x, y = at[:, train]
    near = [np.argmin((x - at[0, i]) ** 2 + (y - at[1, i]) ** 2) for i in test]  # a row at a time stays in the cache
    return train[np.array(near)]
