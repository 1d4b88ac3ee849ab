"""Learning-rate schedules over a run of known length, as a factor on the peak rate."""

import math

from scaling.config import ScheduleConfig


def factor(step: int, steps: int, schedule: ScheduleConfig) -> float:
    """Factor for the update that follows `step` finished ones, of `steps` in all.

    Warm-up is linear over its fraction of the run. Then `constant` stays at 1; `wsd` stays at 1 and falls
    linearly to `final` over the last `decay` fraction (Hu et al. 2024, arXiv 2404.06395; linear as in Hägele et
    al. 2024, arXiv 2405.18392); `cosine` falls over `decay` by half a cosine.
    """
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    decay = round(schedule.decay * steps)
    into = step - (steps - decay) + 1  # updates into the decay, counting this one
    if schedule.kind == "constant" or into <= 0:
        return 1.0
    progress = into / (decay + 1)  # the last update still moves
    shape = 1 - progress if schedule.kind == "wsd" else 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final + (1 - schedule.final) * shape


def phase(step: int, steps: int, schedule: ScheduleConfig) -> str:
    """`warmup`, `stable` or `decay`: only undecayed rows of a curve can stand for shorter runs."""
    if step < round(schedule.warmup * steps):
        return "warmup"
    decaying = schedule.kind != "constant" and step >= steps - round(schedule.decay * steps)
    return "decay" if decaying else "stable"
