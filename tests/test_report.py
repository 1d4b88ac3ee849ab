"""What the report claims: known exponents are found, what cannot be known is said, the page stands alone."""

import re

import numpy as np
import pytest
from runs import ALPHA, BETA, SIZES, TOKENS, E, grid, loss, record, write

from scaling.laws import exponents
from scaling.report import tables
from scaling.report.analysis import analyse
from scaling.report.estimate import Estimate
from scaling.report.page import render
from scaling.report.style import DARK_RAMP, RAMP, colours, count, flops, interval
from scaling.sources.config import ColumnsConfig, SourceConfig
from scaling.sources.csv import read_csv
from scaling.sources.local import COUNTINGS, read_local
from scaling.sources.select import select

TRUE_A = BETA / (ALPHA + BETA)


def analysed(study, bootstrap=60, **options):
    (chosen,) = select(read_local(study), **options)
    return analyse(chosen, bootstrap=bootstrap)


def row(analysis, method, n="n_total"):
    found = [e for e in analysis.estimates if e.method == method and e.counting.n == n]
    return found[0]


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A grid with 0.3 % noise on a law that is known, with a known entropy rate."""
    study = tmp_path_factory.mktemp("known")
    grid(study, noise=0.003, entropy_rate=E)
    return analysed(study, bootstrap=100)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("chinchilla, huber", 0.01),
        ("chinchilla, lad", 0.02),
        ("chinchilla, mse", 0.02),
        ("chinchilla, mse_log", 0.01),
        ("isoFLOP, local", 0.03),
        ("isoFLOP, akima", 0.03),
        ("frontier, interior points", 0.06),
    ],
)
def test_every_method_that_holds_finds_the_true_exponent(known, method, tolerance):
    estimate = row(known, method)
    assert estimate.identified, estimate.verdict
    assert abs(estimate.a - TRUE_A) < tolerance
    assert estimate.a_ci[0] < estimate.a < estimate.a_ci[1]
    assert estimate.a + estimate.b == pytest.approx(1)
    if method.startswith("chinchilla"):
        assert estimate.a_ci[0] <= TRUE_A <= estimate.a_ci[1]


def test_a_law_that_misses_the_runs_is_no_answer(known):
    kaplan = row(known, "kaplan, mse_log")
    assert not kaplan.identified and "misses the runs by" in kaplan.verdict
    assert known.answer.method == "chinchilla, huber"
    assert tables.answer_line(known).startswith("answer: N_opt ~ C^0.40")


def test_the_slope_of_every_frontier_point_is_called_the_grids(known):
    assert not row(known, "frontier, every point").identified
    assert "edge of the grid" in row(known, "frontier, every point").verdict


def test_fitted_floor_stands_beside_the_known_one(known):
    assert known.entropy_rate == E
    line = tables.floor_line(known)
    assert f"the entropy rate of the source is {E:.4f}, inside the interval" in line
    assert abs(known.fits[0].found.params["E"] - E) < 0.1


def test_noise_is_that_of_the_runs(known):
    assert known.noise.sd == pytest.approx(0.003, rel=0.25)
    assert known.noise.source == "scatter about the fit of chinchilla, huber"


def test_seeds_give_the_noise_and_are_one_unit(tmp_path):
    rng = np.random.default_rng(1)
    cells = [(int(n), int(d)) for n in SIZES[::2] for d in TOKENS[::3]]
    noisy = [
        record(n, d, seed=s, loss_val=loss(n, d) * np.exp(0.01 * rng.standard_normal()))
        for n, d in cells
        for s in range(3)
    ]
    write(tmp_path, *noisy)
    analysis = analysed(tmp_path, bootstrap=0)
    assert analysis.noise.source == "seeds of one (N, D)"
    assert analysis.noise.sd == pytest.approx(0.01, rel=0.25)
    assert analysis.fits[0].found.points.units == len(cells)


def test_repeated_data_bring_the_law_that_knows_of_it(tmp_path):
    unique = 10**7
    write(
        tmp_path,
        *(record(int(n), int(d), tokens_unique=min(int(d), unique)) for n in SIZES[::2] for d in TOKENS[::2]),
    )
    analysis = analysed(tmp_path, bootstrap=0)
    assert analysis.fits[0].name == "data_constrained, huber"
    plain = next(f for f in analysis.fits if f.name == "chinchilla, huber")
    assert any("repeat data" in warning for warning in plain.found.warnings)


def test_two_sizes_identify_nothing(tmp_path):
    write(tmp_path, *(record(int(n), int(d)) for n in SIZES[:2] for d in TOKENS))
    analysis = analysed(tmp_path)
    assert analysis.answer is None
    assert "only 2 different sizes" in row(analysis, "chinchilla, huber").verdict
    assert "not identified" in tables.answer_line(analysis)
    for e in analysis.estimates:
        assert not e.identified and e.verdict.startswith("not identified"), e


def test_envelope_uses_fresh_undecayed_rows_alone(tmp_path):
    names = []
    for n in SIZES:
        write(tmp_path, record(int(n), int(TOKENS[-1])))
    for run in read_local(tmp_path).runs.itertuples():
        n, d = run.n_total, TOKENS[-1]
        rows = ["step,tokens,flops,loss_train,loss_val,lr,phase,epoch"]
        for t in np.geomspace(1e5, d, 60):
            phase, y = ("warmup", 0.1) if t < 1e6 else ("decay", 0.1) if t > 0.8 * d else ("stable", loss(n, t))
            rows.append(f"1,{int(t)},{6 * n * t},{y},,0.1,{phase},0.5")
        rows.append(f"1,{int(d)},{6 * n * d},0.05,,0.1,stable,1.5")  # seen before
        (tmp_path / run.run / "curve.csv").write_text("\n".join(rows) + "\n")
        names.append(run.run)
    analysis = analysed(tmp_path, bootstrap=0)  # seven curves: resampled, too often fewer than three sizes are left
    found = row(analysis, "envelope of training curves")
    assert found.identified, found.verdict
    assert abs(found.a - TRUE_A) < 0.05
    assert analysis.envelope.loss.min() > E


def test_epochs_points_give_the_published_fit(data_root):
    path = data_root / "published/epoch/svg_extracted_data.csv"
    source = SourceConfig(name="csv", path=str(path), columns=ColumnsConfig(N="Model Size", C="Training FLOP"))
    (chosen,) = select(read_csv(source), where="loss < 3.4469954")
    assert len(chosen.used) == 240
    analysis = analyse(chosen, bootstrap=50)
    params = analysis.fits[0].found.params
    assert params["E"] == pytest.approx(1.81722, abs=5e-5)
    assert params["alpha"] == pytest.approx(0.34731, abs=5e-5)
    assert analysis.answer.a == pytest.approx(0.5139, abs=1e-4)
    assert "are no grid" in analysis.missing["grid_bias"]


def test_the_page_stands_alone_and_holds_what_the_files_hold(known):
    page = render.render(known, "a <u> & c")
    words = page.split('<script type="application/json"')[0].split("</style>")[1]
    assert "<u>" not in words and "a &lt;u&gt; &amp; c" in words
    assert not re.search(r"(src|href)=\"(?!#)", words) and "default-src 'none'" in page
    for e in known.estimates:
        assert e.method in words
    a = known.answer.a
    assert f"<sup>{a:.2f}</sup>" in words and f"<sup>{1 - a:.2f}</sup>" in words
    for run in known.selection.used["run"]:
        assert run in words
    for why in known.selection.dropped["dropped"]:
        assert why in words


def test_colours_of_sizes_need_no_colour_vision():
    """Lightness rises all the way, on white as on a dark page."""
    for ramp in (RAMP, DARK_RAMP):
        rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours(12, ramp)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
        assert np.diff(lightness).min() > 1.5


def test_json_has_no_nan(known):
    text = tables.json.dumps(tables.plain(tables.fits(known)), allow_nan=False)
    assert '"method": "chinchilla, huber"' in text


def test_an_unbounded_interval_is_written_so():
    e = Estimate("m", None, 0.5, 0.5, (-np.inf, np.inf), None, 2, False, "not identified: two points")
    assert tables.number(e) == "0.500 [-inf, inf]"
    assert tables.number(Estimate.none("m", None, "why")) == "-"
    assert Estimate.none("m", None, "why").verdict == "not identified: why"


@pytest.mark.parametrize(
    ("value", "text"),
    [(135408, "135k"), (2.98e9, "2.98G"), (1000, "1k"), (999_900, "1M"), (12, "12"), (1e15, "1.00e+15")],
)
def test_counts_are_written_with_a_unit(value, text):
    assert count(value) == text


def test_flops_and_intervals():
    assert flops(4.2108e10) == "4.21e10"
    assert interval((0.1, float("inf")), 2) == "[0.10, inf]"


def test_a_line_without_a_finite_interval_is_no_answer():
    """Two budgets make a line of any slope: the number may be shown, never called identified."""
    C = np.array([1e9, 1e12])
    line = exponents(C, C**0.5, C**0.5)
    estimate = Estimate.line("a line", COUNTINGS[0], line, True, "as identified as can be")
    assert estimate.a == pytest.approx(0.5) and estimate.a_ci == (-np.inf, np.inf)
    assert not estimate.identified and estimate.verdict.startswith("not identified: its interval is unbounded")
