"""A plan as a few lines for the terminal."""

from scaling.report.config import AnalyzeConfig
from scaling.report.plan import Plan
from scaling.report.style import count, flops


def plan_lines(plan: Plan, config: AnalyzeConfig) -> list[str]:
    """What to do with the budget that was asked for, and how far to trust it."""
    assert plan.budget is not None
    reach = plan.budget / plan.largest
    head = f"plan for {flops(plan.budget)} FLOPs" + (f" ({said})" if (said := config.said(plan.budget)) else "")
    if plan.inference_tokens:
        head += f", {count(plan.inference_tokens)} tokens of inference included"
    if plan.table is None or plan.asked is None:
        lines = [f"{head}: not identified: {plan.why}", *_best_seen(plan)]
    else:
        lines = [f"{head}, by {plan.law}; N = {plan.n_label}, C = {plan.c_label}", *_answer(plan, reach)]
    return [*lines, *_next(plan, config)]


def _answer(plan: Plan, reach: float) -> list[str]:
    t, i = plan.table, plan.asked
    assert t is not None and i is not None
    far = f"EXTRAPOLATED {reach:.3g} x beyond the largest run, not to be relied on: " if reach > plan.far else ""
    within = "within the compute measured" if reach <= 1 else f"{reach:.3g} x the largest run measured"
    lines = [
        f"  {far}N = {count(t.N[i])}{_ends(t.N_low[i], t.N_high[i])} parameters, "
        f"D = {count(t.D[i])}{_ends(t.D_low[i], t.D_high[i])} tokens, "
        f"{t.tokens_per_parameter[i]:.3g} tokens per parameter",
        f"  {far}loss {t.loss[i]:.4f}{_ends(t.loss_low[i], t.loss_high[i], '{:.4f}')} nats per token ({within})",
    ]
    if plan.choices:
        said = ", ".join(f"{count(c.N)} +{c.extra_compute:.2%}" for c in plan.choices)
        lines.append(f"  round sizes, and the compute they waste: {said}")
    run = plan.run
    if run is None or run.model is None or run.tokens is None or run.N is None or run.loss is None:
        return [*lines, f"  no train.py line: {run.why}"] if run is not None else lines
    size = f"N = {count(run.N)} (+{run.extra_compute or 0:.2%} compute)"
    trained = f"{count(run.tokens)} tokens ({run.epochs:.3g} epochs)"
    loss = f"loss {run.loss:.4f}{_ends(run.loss_low, run.loss_high, '{:.4f}')}"
    lines.append(f"  closest shape of {run.family}: {run.model.name}, {size} on {trained}: {loss}")
    return [*lines, f"  {run.line}"]


def _best_seen(plan: Plan) -> list[str]:
    assert plan.budget is not None
    seen, i = plan.seen, plan.seen.within(plan.budget)
    if i is None:
        return [f"  no run was as cheap as that: the cheapest of the best took {flops(seen.C[0])} FLOPs"]
    at = f", at the edge of the grid ({seen.edge[i]}): no optimum" if seen.edge[i] else ""
    return [
        f"  best run seen within it: {seen.run[i]}: loss {seen.loss[i]:.4f} at N = {count(seen.N[i])}, "
        f"D = {count(seen.D[i])}, C = {flops(seen.C[i])}{at}"
    ]


def _next(plan: Plan, config: AnalyzeConfig) -> list[str]:
    sweep = plan.next_sweep
    if sweep is None:
        return []
    if sweep.C is None:
        return [f"  next sweep: {sweep.why}"]
    said = [f"  {sweep.why}"] if plan.table is None else []
    price = f", {sweep.C / plan.budget:.0%} of the budget" if plan.budget and sweep.C < 2 * plan.budget else ""
    budget = f"budget={sweep.C:.2g}"
    how = f"python analyze.py --config-name=design {budget}"
    if config.source.name == "local":
        how = f"python analyze.py --config-name=design study={config.name} {budget}"
    elif plan.params is not None:  # runs made elsewhere are no pilot of ours, but their law can be the prior
        prior = ",".join(f"{key}:{plan.params[key]:.5g}" for key in ("E", "A", "B", "alpha", "beta"))
        how += f" 'prior={{{prior}}}'"
    why = "" if said else f" ({sweep.why})"
    return [*said, f"  next sweep, {flops(sweep.C)} FLOPs{price}{why}: {how}"]


def _ends(low: float | None, high: float | None, form: str = "") -> str:
    """` [1.2M, 1.4M]`, or nothing where there is no interval."""
    if low is None or high is None or low != low or high != high:
        return ""
    return f" [{form.format(low)}, {form.format(high)}]" if form else f" [{count(low)}, {count(high)}]"
