"use strict";
// Draws what Python computed, in the colours of the page; moves the budget over Python's table. No law lives here.
const data = JSON.parse(document.getElementById("data").textContent);
const el = (id) => document.getElementById(id);
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const touch = matchMedia("(pointer: coarse)").matches;

/* ---- pictures ---- */
function painted(plot) {
  const style = getComputedStyle(document.documentElement);
  const text = JSON.stringify(plot).replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim().replace(/"/g, "'"));
  const { data: traces, layout } = JSON.parse(text);
  if (touch) layout.dragmode = false; // a finger scrolls
  const { dtick, range } = layout.xaxis;
  if (innerWidth < 560 && dtick === "D2" && range[1] - range[0] > 2) layout.xaxis.dtick = 1; // room for decades alone
  return { traces, layout };
}

function draw(id) {
  const { traces, layout } = painted(data.plots[id]);
  const off = new Set([...document.querySelectorAll(`.legend[data-plots~="${id}"] [aria-pressed="false"]`)].map((b) => b.dataset.group));
  for (const trace of traces) trace.visible = off.has(trace.legendgroup) ? false : true;
  if (data.on_budget.includes(id)) layout.shapes = [...(layout.shapes || []), ...budgetLine()];
  Plotly.react(id, traces, layout, config);
}

function drawAll() {
  Object.keys(data.plots).forEach(draw);
  if (el("regret")) drawRegret();
}

document.querySelectorAll(".legend button").forEach((button) =>
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    button.closest(".legend").dataset.plots.split(" ").forEach(draw);
  })
);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

/* ---- the budget ---- */
const table = data.budget;
let budget = table.start;
const log = Math.log;

function count(value) {
  if (value == null || !isFinite(value)) return "?";
  for (const [unit, scale] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (value >= 0.9995 * scale) return value < 999.5 * scale ? +(value / scale).toPrecision(3) + unit : power(value, 2);
  return String(+value.toPrecision(3));
}
const power = (value, digits) => value.toExponential(digits).replace("e+", "e");
const short = (value) => String(+value.toPrecision(3)).replace("e+", "e");

// the rows of the table around a budget, and how far it lies between them in log C
function place(C) {
  const last = table.C.length - 1;
  if (table.kind === "seen") return { i: Math.max(0, table.C.findLastIndex((c) => c <= C * (1 + 1e-9))), j: 0, t: 0 };
  const j = Math.min(last, Math.max(1, table.C.findIndex((c) => c >= C * (1 - 1e-9))));
  return last < 1 ? { i: 0, j: 0, t: 0 } : { i: j - 1, j, t: Math.min(1, Math.max(0, log(C / table.C[j - 1]) / log(table.C[j] / table.C[j - 1]))) };
}
function read(column, { i, j, t }) {
  const [a, b] = [table[column][i], table[column][j]];
  if (t === 0 || a == null || b == null) return t === 1 ? b : a;
  return Math.exp(log(a) + t * log(b / a));
}

function show() {
  const at = place(budget), law = table.kind === "law";
  const value = (column) => read(column, at);
  const between = (name, write) => {
    const [low, high] = [value(`${name}_low`), value(`${name}_high`)];
    return low == null || high == null ? "" : `${write(low)} to ${write(high)}`;
  };
  const loss = (v) => v.toFixed(v < 10 ? 3 : 2);
  el("out-N").textContent = count(value("N"));
  el("out-D").textContent = count(value("D"));
  el("out-ratio").textContent = short(value("D") / value("N"));
  el("out-loss").textContent = loss(value("loss"));
  if (law) {
    el("ci-N").textContent = between("N", count);
    el("ci-D").textContent = between("D", count);
    el("ci-loss").textContent = between("loss", loss);
    const up = budget / table.largest, reach = el("reach");
    reach.classList.toggle("far", up > table.far);
    reach.textContent = up > table.far * 1.0001 ? `${short(up)}× the largest run measured: nothing vouches for this` : up > 1.0001 ? `${short(up)}× the largest run measured: extrapolated` : "within the compute measured";
    drawRegret();
  } else {
    el("reach").textContent = `${table.run[at.i]}, at ${power(table.C[at.i], 2)} FLOPs`;
    el("ci-N").textContent = table.edge[at.i] ? `edge of the grid: ${table.edge[at.i]}` : "";
  }
  for (const id of data.on_budget) if (el(id).data) Plotly.relayout(id, { shapes: [...(painted(data.plots[id]).layout.shapes || []), ...budgetLine()] });
}

function budgetLine() {
  if (!budget) return [];
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--law").trim();
  return [{ type: "line", x0: budget, x1: budget, y0: 0, y1: 1, yref: "paper", line: { color: colour, width: 1, dash: "dot" } }];
}

function drawRegret() {
  const at = place(budget), { layout } = painted(data.regret), { ratio: [low, high], most } = layout.meta;
  const best = read("N", at), waste = table.extra_compute[at.t > 0.5 ? at.j : at.i], losses = table.loss_at[at.t > 0.5 ? at.j : at.i];
  const x = table.ratio.map((r) => r * best), y = waste.map((w) => (w == null ? null : 100 * w));
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--law").trim();
  layout.xaxis.range = [Math.log10(low * best), Math.log10(high * best)];
  layout.shapes = [{ type: "line", x0: best, x1: best, y0: 0, y1: 1, yref: "paper", line: { color: colour, width: 1, dash: "dot" } }];
  const text = x.map((n, i) => `N ${count(n)}<br>${y[i] == null ? "?" : y[i].toFixed(1)} % more compute than needed<br>loss ${losses[i] == null ? "?" : losses[i].toFixed(3)}`);
  const trace = { x, y, text, mode: "lines", line: { color: colour, width: 2.2, shape: "spline" }, hovertemplate: "%{text}<extra></extra>" };
  Plotly.react("regret", [trace], layout, { ...config, displayModeBar: false });
}

function ends() { return [table.C[0], table.C[table.C.length - 1]]; }
function toSlider() { const [low, high] = ends(); el("slider").value = high > low ? (1000 * log(budget / low)) / log(high / low) : 0; }
function move(C, from) {
  const [low, high] = ends();
  budget = Math.min(high, Math.max(low, C));
  if (from !== "field") el("budget").value = power(budget, 2);
  if (from !== "slider") toSlider();
  show();
  if (from === "field" && C !== budget) el("reach").textContent = `the table goes from ${power(low, 1)} to ${power(high, 1)} FLOPs: python analyze.py budget=${power(C, 2)} has others`;
}
if (el("answer")) {
  el("slider").addEventListener("input", () => { const [low, high] = ends(); move(low * (high / low) ** (el("slider").value / 1000), "slider"); });
  el("budget").addEventListener("input", () => { const C = Number(el("budget").value); if (C > 0) move(C, "field"); });
  el("budget").addEventListener("change", () => { el("budget").value = power(budget, 2); });
}

/* ---- tables ---- */
document.querySelectorAll("table.sortable").forEach((sorted) =>
  sorted.querySelectorAll("th").forEach((th, column) =>
    th.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      sorted.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const rows = [...sorted.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const order = th.classList.contains("n") ? x - y || 0 : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      sorted.tBodies[0].append(...rows);
    })
  )
);

drawAll();
if (el("answer")) move(budget);
