"""`dry_run=true`: what a sweep would be, before it is paid for. Nothing is trained to an end, no run is written.

Times come from finished runs of the study where there are some of the same shape on the same device, and otherwise
from a few steps of each shape in scratch processes, side by side as the sweep would run them.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaling import records
from scaling.config import TrainConfig
from scaling.launcher.machine import Layout
from scaling.launcher.pace import ENOUGH_STEPS, Paces, Shape, Work, makespan, shape_of
from scaling.launcher.pool import Pool
from scaling.launcher.survey import Size

TRIAL_S = 1.5  # of training each shape, where it is timed
TRIAL_STEPS = (16, 256)  # at least, at most
TRIAL_EVAL = 64  # sequences


@dataclass(frozen=True)
class Planned:
    """One run of the plan. Neither time nor memory where it is skipped, for the reason given."""

    config: TrainConfig
    size: Size
    skip: str = ""
    seconds: float = 0.0
    memory_mb: float | None = None

    @property
    def work(self) -> Work:
        c = self.config
        return Work(shape_of(c), c.tokens_trained, self.size.flops_per_token)


@dataclass(frozen=True)
class Trial:
    """A shape, timed. Seconds; `first` is what the first job of a process pays besides."""

    per_token: float
    per_eval_token: float
    besides: float
    first: float
    memory_mb: float

    def seconds(self, config: TrainConfig, work: Work) -> float:
        from scaling.training.fit import EVAL_SHARE

        along = int(EVAL_SHARE * config.tokens.budget * 3 / config.eval_tokens)
        evaluated = config.eval_tokens * (1 + along)
        return self.besides + work.tokens * self.per_token + evaluated * self.per_eval_token


@dataclass(frozen=True)
class Plan:
    """`total_s` is the sweep from its first job on; `n_timed` of `n_shapes` shapes were timed, the rest has records."""

    runs: list[Planned]
    total_s: float
    n_shapes: int
    n_timed: int


def make_plan(runs: Sequence[Planned], layout: Layout) -> Plan:
    """The runs with their times and memory. Raises what a trial raised."""
    paces, memory = finished_paces(runs)
    todo = [run for run in runs if not run.skip]
    trials = _timed([run for run in todo if not paces.knows(run.work, _enough(run.config))], layout)
    planned = []
    for run in runs:
        shape = run.work.shape
        if run.skip:
            planned.append(run)
        elif trial := trials.get(shape):
            seconds = trial.seconds(run.config, run.work)
            planned.append(replace(run, seconds=seconds, memory_mb=trial.memory_mb))
        else:
            planned.append(replace(run, seconds=paces.seconds(run.work) or 0.0, memory_mb=memory.get(shape)))
    longest_first = sorted((run.seconds for run in planned if not run.skip), reverse=True)
    first = max((trial.first for trial in trials.values()), default=0.0)
    total = makespan(longest_first, layout.workers) + first
    return Plan(planned, total, len({run.work.shape for run in todo}), len(trials))


def time_few_steps(config: TrainConfig) -> Trial:
    """Short runs of the session itself, in a directory that is gone afterwards."""
    from scaling.training import session

    step_tokens, eval_tokens = config.batch_size * config.seq_len, TRIAL_EVAL * config.seq_len
    with tempfile.TemporaryDirectory() as scratch:

        def run(seed: int, steps: int, eval_tokens: int = eval_tokens) -> records.RunRecord:
            trial = replace(
                config,
                output_dir=scratch,
                seed=seed,
                ladder=[],
                eval="slice",
                eval_tokens=eval_tokens,
                tokens=replace(config.tokens, budget=steps * step_tokens),
                logger=replace(config.logger, mode="none" if config.logger.mode == "none" else "offline"),
            )
            outcome = session.run(trial)
            if outcome.status != "finished":
                raise RuntimeError(f"{config.run_name}: a few steps of it {outcome.status}: {outcome.reason}")
            return records.read(trial.run_dir)

        first, short = run(0, 1), run(1, 1)
        few = run(2, TRIAL_STEPS[0])
        steps = int(TRIAL_S / step_tokens * (few.tokens_per_s or 0.0))
        if steps > TRIAL_STEPS[0]:
            few = run(3, min(steps, TRIAL_STEPS[1]))
        wide = run(4, 1, 8 * eval_tokens)
    per_token = 1 / (few.tokens_per_s or 1.0)
    per_eval_token = max(0.0, _wall(wide) - _wall(short)) / (7 * eval_tokens)
    besides = max(0.0, _wall(short) - step_tokens * per_token - eval_tokens * per_eval_token)
    return Trial(per_token, per_eval_token, besides, _wall(first) - _wall(short), wide.peak_memory_mb or 0.0)


def _wall(record: records.RunRecord) -> float:
    return record.wall_s or 0.0


def _enough(config: TrainConfig) -> int:
    """Tokens that a finished run must have been trained on for its pace to stand for this one's."""
    return min(config.steps, ENOUGH_STEPS) * config.batch_size * config.seq_len


def finished_paces(runs: Sequence[Planned]) -> tuple[Paces, dict[Shape, float]]:
    """What finished runs of the same studies took, each on the device that is planned for; memory of each shape."""
    paces, memory = Paces(), dict[Shape, float]()
    for study, device, precision in {(r.config.run_dir.parent, r.size.device, r.size.precision) for r in runs}:
        for record in records.readable(study):
            if (record.status, record.device, record.precision) == ("finished", device, precision):
                paces.learn_record(record)
                shape, mb = shape_of(record), record.peak_memory_mb or 0.0
                memory[shape] = min(mb, memory.get(shape, mb))  # a process' peak may be an earlier job's
    return paces, memory


def _timed(runs: Sequence[Planned], layout: Layout) -> dict[Shape, Trial]:
    """One trial for each shape, the largest first."""
    runs = sorted(runs, key=lambda run: run.size.flops_per_token, reverse=True)
    shapes = {run.work.shape: run.config for run in runs}
    if not shapes:
        return {}
    pool: Pool[TrainConfig] = Pool(min(layout.workers, len(shapes)), layout.slots, fresh=True)
    trials: dict[Shape, Trial] = {}
    for done in pool.results(time_few_steps, list(shapes.values())):
        if done is None:
            continue
        if pool.stopped:
            raise KeyboardInterrupt
        if done.error is not None:
            raise done.error
        trials[shape_of(done.item)] = done.value
    if pool.stopped:
        raise KeyboardInterrupt
    return trials
