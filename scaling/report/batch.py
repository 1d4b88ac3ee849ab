"""The critical batch size, where a study trained one size at several batch sizes."""

from scaling.laws import CriticalBatch, LawError, critical_batch
from scaling.sources.select import Selection


def critical_batch_of(selection: Selection) -> tuple[CriticalBatch | None, str]:
    """From the undecayed training curves of the size with the most batch sizes, those that selection left out as a
    worse setting included; or None and why not ("" where the study never varied it)."""
    runs, n = selection.runs, selection.primary.n
    read = selection.table.read_curves
    if read is None or not {"batch_size", "seq_len"} <= set(runs.columns):
        return None, ""
    good = runs[(runs["status"] == "finished") & (runs["batch_size"] > 0)]
    several = good.groupby(n)["batch_size"].nunique()
    if several.empty or several.max() < 2:
        return None, ""
    some = good[good[n] == several.idxmax()].set_index("run")
    curves = read(list(some.index))
    rows = {name: c[c["phase"] == "stable"] for name, c in curves.groupby("run", sort=False)}
    rows = {name: c for name, c in rows.items() if len(c) > 1}
    batch = [float(some["batch_size"][name] * some["seq_len"][name]) for name in rows]
    steps = [c["tokens"].to_numpy(dtype=float) / b for c, b in zip(rows.values(), batch, strict=True)]
    try:
        return critical_batch(batch, steps, [c["loss_train"].to_numpy(dtype=float) for c in rows.values()]), ""
    except LawError as error:
        return None, str(error)
