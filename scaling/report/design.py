"""`analyze.py --config-name=design`: a sweep for a budget, what it should buy, and the experiment that runs it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from scaling.config import ConfigError, ModelConfig, TrainConfig
from scaling.laws import LawError
from scaling.laws import design as laws
from scaling.laws.design import Sweep
from scaling.laws.plan import Cost
from scaling.report import recipe
from scaling.report.config import DesignConfig, typed_design
from scaling.report.style import count, flops

DEFAULT_NOISE = 0.01
STEPS_MIN = 20  # fewer steps than these are all warm-up and decay


@dataclass(frozen=True)
class Pilot:
    """What is known beforehand: a law and where it comes from, noise, settings that runs share, shapes trained."""

    law: dict[str, float]
    source: str
    noise: float
    config: TrainConfig
    shapes: tuple[ModelConfig, ...]
    flops_per_s: float | None


def design(cfg: DictConfig) -> None:
    """Lays out, simulates, prints and writes a sweep. Raises ConfigError before anything is written."""
    config = typed_design(cfg)
    total = config.flops()
    if total is None:
        raise ConfigError(
            "budget=null: what may the sweep cost? budget= in FLOPs, or gpu_hours=, dollars=, deadline_days="
        )
    targets = [config.target, *([config.target_rectangle] if config.rectangle else [])]
    for target in targets:
        if target.exists():
            raise ConfigError(f"name={config.name}: {target} is there already: another name=, or remove it")
        if not target.parent.is_dir():
            raise ConfigError(f"out={config.out}: no such directory")
    from rich.console import Console

    with Console(stderr=True).status("the family's shapes") as status:
        pilot = _pilot(config)
        known = Shapes(pilot, total)
        status.update("layouts")
        limits = replace(known.limits, runs=config.max_runs)
        try:
            wanted = laws.isoflop_sweep(pilot.law, known.cost, total, pilot.noise, limits)
        except LawError as error:
            raise ConfigError(str(error)) from None
        grid = laws.rectangle(wanted, pilot.law, known.cost, limits)
        plans = [known.runs(wanted), known.runs(grid, rectangular=True)]
        rows = []
        for name, (sweep, _) in zip(("designed", "rectangular"), plans, strict=True):
            status.update(f"simulated studies: {name}")
            rows.append(
                (name, sweep, laws.simulate(sweep, pilot.law, pilot.noise, draws=config.draws, seed=config.seed))
            )
    print(f"design for {flops(total)} FLOPs; prior: {pilot.source}; noise {pilot.noise:.2%}")
    for c, part in _slices(plans[0][0]):
        print(f"  C = {flops(c)}: {len(part.N)} sizes, N = {_span(part.N)}, D = {_span(part.D)}")
    for name, sweep, expected in rows:
        said = f", {spent}" if (spent := config.said(sweep.total)) else ""
        if pilot.flops_per_s and not said:
            said = (
                f", {sweep.total / pilot.flops_per_s / 3600:.3g} hours of one job after the other, as fast as the pilot"
            )
        print(
            f"  {name} ({sweep.what}): {len(sweep.N)} runs, {flops(sweep.total)} FLOPs{said}; "
            f"a = {expected.a:.3f} would be found within [{expected.low:.3f}, {expected.high:.3f}]"
        )
    for target, (sweep, models) in zip(targets, plans, strict=False):
        _write(target, sweep, models, pilot.config, total)
        print(f"{target}: python train.py -m experiment={target.stem}")
    print("  the same with dry_run=true says what it takes on this machine")


class Shapes:
    """The sizes that a family can have, what they cost, and a sweep in them."""

    def __init__(self, pilot: Pilot, total: float) -> None:
        self.config = pilot.config
        self.family = recipe.Family(pilot.config, pilot.shapes)
        self._step = pilot.config.batch_size * pilot.config.seq_len
        D_min = float(STEPS_MIN * self._step)
        known = self.family.ladder(total / 10 / D_min)
        sizes = {one.N: one.flops_per_token for one in known}
        self.cost = Cost(np.array(sorted(sizes)), np.array([sizes[n] for n in sorted(sizes)]))
        D_max = float(self.family.unique_tokens)
        self.limits = laws.Limits(min(sizes), max(sizes), D_min, D_max)

    def runs(self, sweep: Sweep, rectangular: bool = False) -> tuple[Sweep, list[tuple[ModelConfig, int]]]:
        """The sweep in shapes that exist and whole steps: at the same C in slices, at the same D in a rectangle."""
        shapes = {n: self.family.closest(float(n)) for n in np.unique(sweep.N)}
        found: dict[tuple[str, int], tuple[float, float, float, ModelConfig]] = {}
        for n, d, c in zip(sweep.N, sweep.D, sweep.C, strict=True):
            one = shapes[n]
            steps = max(1, int((d if rectangular else c / one.flops_per_token) // self._step))
            tokens = min(steps, self.family.unique_tokens // self._step) * self._step
            found[one.model.name, tokens] = (one.N, tokens, one.flops_per_token * tokens, one.model)
        rows = sorted(found.values(), key=lambda row: (row[2], row[0]))
        N, D, C = (np.array([row[i] for row in rows]) for i in range(3))
        return Sweep(sweep.what, N, D, C), [(row[3], int(row[1])) for row in rows]


def _pilot(config: DesignConfig) -> Pilot:

    if config.study is None:
        base = recipe.checked(config.train.split())
        noise = config.noise or DEFAULT_NOISE
        prior = {k: float(v) for k, v in config.prior.items()}
        return Pilot(prior, "as given, no pilot", noise, base, _stock_shapes(), None)
    return _from_study(config)


def _from_study(config: DesignConfig) -> Pilot:
    """Law, noise and settings of a study made here; exponents are the prior's where it identifies none."""
    from scaling.laws import fit_law
    from scaling.report import methods, parametric
    from scaling.sources.local import read_local
    from scaling.sources.select import select

    study = Path(config.output_dir) / str(config.study)
    (selection,) = select(read_local(study))
    runs = selection.used
    N, D, C, loss = methods.columns(selection, selection.primary)
    exponents = {k: config.prior[k] for k in ("alpha", "beta")}
    try:
        fit = fit_law(N, D, loss)
        source = f"the fit of {config.study}"
        if not (fit.identified["a"] and fit.certificate.certified):
            fit = fit_law(N, D, loss, fix=exponents)
            source = f"{config.study} identifies no exponents: those of the prior, fitted to its losses"
    except LawError as error:
        raise ConfigError(f"study={config.study}: {error}") from None
    sd = parametric.Fit(selection.primary, "chinchilla", "huber", fit).residual_sd
    noise = config.noise or (sd if np.isfinite(sd) and sd > 0 else DEFAULT_NOISE)
    largest = str(runs["run"].to_numpy()[int(np.argmax(C))])
    base = recipe.read_config(study / largest)
    base = replace(base, cache_dir=recipe.checked([]).cache_dir, output_dir=config.output_dir)
    shapes = tuple(ModelConfig("", *map(int, s)) for s in runs[[*recipe.SHAPE]].drop_duplicates().to_numpy())
    pace = float(np.median(runs["flops"] / runs["wall_s"].astype(float))) if runs["wall_s"].notna().any() else None
    return Pilot(dict(fit.params), source, float(noise), base, shapes, pace)


def _stock_shapes() -> tuple[ModelConfig, ...]:
    """Those of `conf/model/`."""
    from hydra.core.global_hydra import GlobalHydra

    names = GlobalHydra.instance().config_loader().get_group_options("model")
    return tuple(recipe.checked([f"model={name}"]).model for name in names)


def _slices(sweep: Sweep) -> list[tuple[float, Sweep]]:
    """Runs of about one C together."""
    parts, start = [], 0
    for end in range(1, len(sweep.C) + 1):
        if end == len(sweep.C) or sweep.C[end] > 1.25 * sweep.C[start]:
            k = slice(start, end)
            parts.append((float(np.median(sweep.C[k])), Sweep("", sweep.N[k], sweep.D[k], sweep.C[k])))
            start = end
    return parts


def _span(values: NDArray[np.float64]) -> str:
    return f"{count(float(np.min(values)))} to {count(float(np.max(values)))}"


def _write(target: Path, sweep: Sweep, models: list[tuple[ModelConfig, int]], base: TrainConfig, total: float) -> None:
    """An experiment: what the runs share, and one line of overrides for each."""
    import yaml

    from scaling.records import atomic_write

    shared = dict(o.split("=", 1) for o in recipe.overrides_of(replace(base, study="default"), shape=False))
    shared = {key: value for key, value in shared.items() if key not in recipe.PLACES}
    body = {
        "study": target.stem,
        "hydra": {
            "mode": "MULTIRUN",
            "sweeper": {
                "params": shared or None,
                "runs": [" ".join(recipe.shape_overrides(model, tokens)) for model, tokens in models],
            },
        },
    }
    head = f"# @package _global_\n# Laid out by analyze.py --config-name=design for {flops(total)} FLOPs\n"
    atomic_write(target, head + yaml.safe_dump(body, sort_keys=False, width=1000))
