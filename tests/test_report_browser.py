"""The page as people see it, in Chromium: it opens, the budget moves the answer, tables sort, a phone can show it."""

import shutil

import numpy as np
import pytest
from runs import SIZES, TOKENS, loss, record, write

from scaling.report.analysis import analyse
from scaling.report.page import render
from scaling.report.style import count
from scaling.sources.config import SourceConfig
from scaling.sources.csv import read_csv
from scaling.sources.local import read_local
from scaling.sources.select import select

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
NASTY = "<img src=x onerror=alert(1)> & co"
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium: the page cannot be looked at")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def identified(tmp_path_factory):
    """A study whose law is known, and its page."""
    study = tmp_path_factory.mktemp("law")
    rng = np.random.default_rng(0)
    cells = [(int(n), int(d)) for n in SIZES[::2] for d in TOKENS[::2]]
    link = "https://wandb.ai/me/scaling/runs/one"
    noisy = [record(n, d, loss_val=loss(n, d) * np.exp(0.003 * rng.standard_normal()), url=link) for n, d in cells]
    write(study, *noisy, record(123, 1024, status="diverged", error="loss is not finite", loss_val=None))
    (chosen,) = select(read_local(study))
    analysis = analyse(chosen, bootstrap=20)
    return analysis, render.write(analysis, "law", study)


@pytest.fixture(scope="module")
def open_question(tmp_path_factory):
    """Two sizes, which identify nothing, under names that are markup."""
    out = tmp_path_factory.mktemp("open")
    rows = [f'"{NASTY} {n:.0f} {d:.0f}",{n},{d},{loss(n, d)}' for n in SIZES[:2] for d in TOKENS]
    (out / "runs.csv").write_text("run,N,D,loss\n" + "\n".join(rows))
    (chosen,) = select(read_csv(SourceConfig(name="csv", path=str(out / "runs.csv"))))
    analysis = analyse(chosen, bootstrap=0)
    assert analysis.answer is None
    return analysis, render.write(analysis, NASTY, out)


@pytest.fixture
def visit(browser):
    """visit(file, width, scheme) -> the open page; at the end it must have had no error and asked for nothing else."""
    visits = []

    def go(path, width=1400, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(120_000)  # a busy machine
        errors, asked = [], []
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.locator(".plot .main-svg").last.wait_for(state="attached")
        assert page.locator(".plot:not(:has(.main-svg))").count() == 0
        visits.append((page, errors, asked, path))
        return page

    yield go
    for page, errors, asked, path in visits:
        page.close()
        assert errors == [] and asked == [path.as_uri()]


def numbers(page, selector):
    return [float(cell.get_attribute("data-v")) for cell in page.locator(selector).all()]


def test_the_budget_moves_the_answer(visit, identified):
    analysis, path = identified
    page, table = visit(path), analysis.plan.table
    assert page.locator("h1").inner_text().replace("\n", "").startswith("N")
    for row in (10, len(table.C) - 1):
        page.fill("#budget", repr(float(table.C[row])))
        assert page.inner_text("#out-N") == count(table.N[row])
        assert page.inner_text("#out-D") == count(table.D[row])
        assert float(page.inner_text("#out-ratio")) == pytest.approx(table.tokens_per_parameter[row], rel=0.005)
        assert float(page.inner_text("#out-loss")) == pytest.approx(table.loss[row], abs=5e-4)
        assert page.inner_text("#ci-N") == f"{count(table.N_low[row])} to {count(table.N_high[row])}"
        curve = page.evaluate("({x: regret.data[0].x, y: regret.data[0].y})")
        assert curve["x"] == pytest.approx(table.ratio * table.N[row])
        assert curve["y"] == pytest.approx(100 * table.extra_compute[row])
    assert "extrapolated" in page.inner_text("#reach")
    page.fill("#budget", "1")
    assert "the table goes from" in page.inner_text("#reach")


def test_between_rows_of_the_table_the_answer_is_between(visit, identified):
    analysis, path = identified
    page, table = visit(path), analysis.plan.table
    page.fill("#budget", repr(float(np.sqrt(table.C[20] * table.C[21]))))
    assert page.inner_text("#out-N") == count(np.sqrt(table.N[20] * table.N[21]))


def test_the_slider_does_what_the_field_does(visit, identified):
    analysis, path = identified
    page = visit(path)
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.inner_text("#out-N") == count(analysis.plan.table.N[0])
    assert float(page.input_value("#budget")) == pytest.approx(analysis.plan.table.C[0], rel=0.01)
    line = page.evaluate("document.getElementById('loss-0').layout.shapes.at(-1).x0")
    assert line == pytest.approx(analysis.plan.table.C[0])


def test_where_nothing_is_identified_it_shows_the_best_run_seen(visit, open_question):
    analysis, path = open_question
    page, seen = visit(path), analysis.plan.seen
    assert page.inner_text("h1") == "Not identified"
    assert "no law is identified" in page.inner_text(".price").lower()
    page.fill("#budget", repr(seen.C[2] * 1.0001))
    assert page.inner_text("#out-N") == count(seen.N[2]) and page.inner_text("#out-D") == count(seen.D[2])
    assert seen.run[2] in page.inner_text("#reach")
    assert page.locator(".plot").count() >= 3 and "Nothing to draw" in page.inner_text("#slices")
    assert page.locator("img").count() == 0 and NASTY in page.inner_text(".eyebrow")


def test_runs_are_sorted_by_any_column_and_lead_to_wandb(visit, identified):
    analysis, path = identified
    page = visit(path)
    loss_cells = "#runs tbody tr td:nth-child(6)"
    page.click("#runs th:nth-child(6) button")
    assert numbers(page, loss_cells) == sorted(analysis.selection.used["loss"])
    page.click("#runs th:nth-child(6) button")
    assert numbers(page, loss_cells) == sorted(analysis.selection.used["loss"], reverse=True)
    assert page.get_attribute("#runs th:nth-child(6)", "aria-sort") == "descending"
    assert page.get_attribute("#runs tbody tr a >> nth=0", "href") == "https://wandb.ai/me/scaling/runs/one"
    assert "diverged: loss is not finite" in page.inner_text("#left-out")


def test_an_entry_of_a_legend_hides_its_traces(visit, identified):
    page = visit(identified[1])
    of = "document.getElementById('loss-0').data.filter((t) => t.legendgroup === 'size0').map((t) => t.visible)"
    assert set(page.evaluate(of)) == {True}
    page.click("#loss .legend [data-group=size0]")
    assert set(page.evaluate(of)) == {False}


@pytest.mark.parametrize("study", ["identified", "open_question"])
def test_a_phone_shows_it_without_scrolling_sideways(visit, request, study):
    page = visit(request.getfixturevalue(study)[1], width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("#out-N").bounding_box()["y"] < 900


def test_dark_and_light_follow_the_reader(visit, identified):
    page = visit(identified[1], scheme="dark")
    look = "[getComputedStyle(document.body).backgroundColor, document.getElementById('loss-0').data[0].line.color]"
    dark = page.evaluate(look)
    page.emulate_media(color_scheme="light")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    light = page.evaluate(look)
    assert light[0] == "rgb(255, 255, 255)" != dark[0] and light[1] != dark[1]
