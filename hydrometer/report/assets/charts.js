/* Charts of the kinds of figures.py, drawn with Observable Plot. Colours are variables of style.css. */
const SERIES = ["var(--s1)", "var(--s2)", "var(--s3)", "var(--s4)", "var(--s5)", "var(--s6)", "var(--s7)", "var(--s8)"];
const DASHES = ["", "5 3", "1.5 3"];
const COSINE_LIMIT = 1.08; /* jackknife intervals of few questions may leave [-1, 1] by far */
const LEAST = 1e-6; /* of a logarithmic axis */
const seriesColour = (place) => SERIES[place % SERIES.length];
const seriesDash = (place) => DASHES[Math.floor(place / SERIES.length) % DASHES.length];

function tickFormat(unit) {
  if (unit === "share") return (value) => `${Math.round(100 * value)} %`;
  if (unit === "percent_points") return (value) => `${value > 0 ? "+" : ""}${Math.round(100 * value)}`;
  if (unit === "cosine" || unit === "rate") {
    return (value) => (Math.abs(value) < 1e-12 ? "0" : `${value > 0 ? "+" : "−"}${Number(Math.abs(value).toPrecision(3))}`);
  }
  return (value) => number(value);
}

const unitOf = (chart, rows) => chart.tick || (chart.unit && rows.length ? rows[0][chart.unit] : "number");

function spanOf(values, unit, withZero) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (withZero) known.push(0);
  if (!known.length) return [-1, 1];
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (unit === "cosine") [low, high] = [Math.max(low, -COSINE_LIMIT), Math.min(high, COSINE_LIMIT)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const margin = 0.05 * (high - low);
  return unit === "share" ? [Math.max(low - margin, Math.min(low, 0)), Math.min(high + margin, Math.max(high, 1))] : [low - margin, high + margin];
}

function drawChart(figure, rows, width, series) {
  const draw = { intervals: drawIntervals, lines: drawLines }[figure.chart.kind];
  const svg = draw(figure, rows, width, series);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${figure.title}. The numbers are in the table below the figure.`);
  return svg;
}

/* One row of the picture per label; its series lie below each other, its panels beside each other. */
function drawIntervals(figure, rows, width, series) {
  const { chart } = figure;
  const unit = unitOf(chart, rows);
  const labels = distinct(rows.map((row) => row[chart.y]));
  const panels = chart.panel ? distinct(rows.map((row) => row[chart.panel])) : [""];
  const longest = Math.max(...labels.map((label) => label.length), 4);
  const wanted = 6.9 * longest + 22;
  const stacked = wanted > 0.42 * width; /* labels stand above their lines */
  const [low, high] = chart.inner || [];
  const line = 14;
  const rowHeight = Math.max(1, series.length) * line + (stacked ? 30 : 12);
  const place = (value) => Math.min(Math.max(value, domain[0]), domain[1]);
  const ends = rows.flatMap((row) => [row[chart.x], row[chart.low], row[chart.high], low ? row[low] : null, high ? row[high] : null]);
  const domain = spanOf(ends, unit, unit !== "share");
  const facet = { fy: (row) => row[chart.y], ...(chart.panel ? { fx: (row) => row[chart.panel] } : {}) };
  const y = (row) => (chart.series ? row[chart.series] : "");
  const colour = (row) => seriesColour(Math.max(series.indexOf(y(row)), 0));
  const known = rows.filter((row) => row[chart.x] !== null);
  const certain = known.filter((row) => row[chart.low] !== null && row[chart.high] !== null);
  const inner = low ? known.filter((row) => row[low] !== null && row[high] !== null) : [];
  const marginLeft = stacked ? 10 : Math.max(60, wanted);
  const fits = stacked ? Math.floor((width - 16) / 7) : longest;
  const hasHeads = panels.length > 1;
  const everywhere = labels.flatMap((label) => panels.map((panel) => ({ [chart.y]: label, [chart.panel || "_"]: panel })));
  const named = labels.map((label) => ({ [chart.y]: label, [chart.panel || "_"]: panels[0] }));
  return Plot.plot({
    width, marginLeft, marginRight: 14, marginTop: hasHeads ? 28 : 6, marginBottom: 34,
    height: labels.length * rowHeight + (hasHeads ? 62 : 40),
    x: { domain, label: null, ticks: Math.max(3, Math.round((width - marginLeft) / panels.length / 75)), tickFormat: tickFormat(unit) },
    y: { domain: series.length ? series : [""], axis: null, padding: 0.6, insetTop: stacked ? 16 : 0 },
    fx: { domain: panels, label: null, paddingInner: hasHeads ? 0.06 : 0, paddingOuter: 0, axis: null },
    fy: { domain: labels, axis: null, padding: 0 },
    marks: [
      Plot.gridX({ stroke: "var(--grid)", strokeOpacity: 1, ticks: Math.max(3, Math.round((width - marginLeft) / panels.length / 75)) }),
      Plot.frame({ anchor: "bottom", stroke: "var(--grid)" }),
      ...(domain[0] <= 0 && domain[1] >= 0 ? [Plot.ruleX([0], { stroke: "var(--soft)", strokeWidth: 1.2 })] : []),
      Plot.text(everywhere, { ...facet, text: () => "" }),
      ...(!hasHeads ? [] : [Plot.text(panels.map((panel) => ({ panel })), { fx: "panel", fy: () => labels[0], text: "panel", frameAnchor: "top", dy: -20, fontWeight: 600, fontSize: 12.5, fill: "var(--soft)" })]),
      Plot.text(named, { ...facet, text: (row) => shorten(row[chart.y], fits), frameAnchor: stacked ? "top-left" : "left", textAnchor: "start", dx: stacked ? 4 : 4 - marginLeft, dy: stacked ? 4 : 0, fill: "var(--ink)", stroke: "var(--card)", strokeWidth: 4, fontSize: 13, title: (row) => row[chart.y] }),
      Plot.ruleY(inner, { ...facet, y, x1: (row) => place(row[low]), x2: (row) => place(row[high]), stroke: colour, strokeWidth: 7, strokeOpacity: 0.28 }),
      Plot.ruleY(certain, { ...facet, y, x1: (row) => place(row[chart.low]), x2: (row) => place(row[chart.high]), stroke: colour, strokeWidth: 2 }),
      Plot.dot(known, { ...facet, y, x: (row) => place(row[chart.x]), r: 4.5, fill: (row) => (row[chart.low] === null ? "var(--card)" : colour(row)), stroke: colour, strokeWidth: 1.6 }),
      Plot.text(rows.filter((row) => row[chart.x] === null), { ...facet, y, text: (row) => (row[chart.empty] ? `no value: ${row[chart.empty]}` : "no value"), frameAnchor: "left", dx: 6, fill: "var(--soft)", fontStyle: "italic", lineWidth: (width - marginLeft) / panels.length / 13 - 1, textOverflow: "ellipsis", title: (row) => row[chart.empty] || "no value" }),
      Plot.tip(known, Plot.pointer({ ...facet, y, x: (row) => place(row[chart.x]), title: (row) => hoverText(figure, row), maxRadius: 50, fontSize: 12.5, lineHeight: 1.3, lineWidth: 34 })),
    ],
  });
}

function drawLines(figure, rows, width, series) {
  const { chart } = figure;
  const unit = unitOf(chart, rows);
  const known = rows.filter((row) => row[chart.y] !== null && row[chart.x] !== null);
  const banded = chart.low ? known.filter((row) => row[chart.low] !== null && row[chart.high] !== null) : [];
  const values = [...known.map((row) => row[chart.y]), ...banded.flatMap((row) => [row[chart.low], row[chart.high]])];
  const domain = spanOf(values, unit, Boolean(chart.zero));
  const named = (row) => (chart.series ? row[chart.series] : "");
  const colour = (row) => seriesColour(Math.max(series.indexOf(named(row)), 0));
  const clamp = (value) => Math.min(Math.max(value, domain[0]), domain[1]);
  const isLog = Boolean(rows.length && rows[0].scale === "log");
  const x = isLog ? (row) => Math.max(row[chart.x], LEAST) : chart.x;
  const y = (row) => clamp(row[chart.y]);
  const xLabel = chart.xLabelColumn && rows.length ? rows[0][chart.xLabelColumn] : chart.xLabel;
  const alarms = (chart.alarms || []).filter((alarm) => !chart.series || series.includes(alarm.run));
  const ofRun = (alarm) => (series.length > 1 ? seriesColour(series.indexOf(alarm.run)) : "var(--harms)");
  return Plot.plot({
    width, height: Math.min(320, Math.max(190, 0.62 * width)), marginLeft: 56, marginRight: 16, marginTop: 14, marginBottom: 40,
    x: { label: xLabel ? `${xLabel} →` : null, ticks: Math.max(3, Math.round(width / 90)), tickFormat: tickFormat("number"), ...(isLog ? { type: "log", ticks: 5 } : {}) },
    y: { domain, label: null, tickFormat: tickFormat(unit), ticks: 5 },
    marks: [
      Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1, ticks: 5 }),
      ...(domain[0] < 0 && domain[1] > 0 ? [Plot.ruleY([0], { stroke: "var(--soft)", strokeWidth: 1.2 })] : []),
      Plot.ruleX(alarms, { x: "step", stroke: ofRun, strokeWidth: 1.3, strokeDasharray: "4 3" }),
      Plot.text(alarms, { x: "step", text: () => "⚠", frameAnchor: "top", dy: -6, fill: ofRun, title: "text" }),
      ...series.map((name, place) => Plot.line(known.filter((row) => !chart.series || named(row) === name), { x, y, stroke: seriesColour(place), strokeWidth: 1.8, strokeDasharray: seriesDash(place), sort: x })),
      Plot.ruleX(banded, { x, y1: (row) => clamp(row[chart.low]), y2: (row) => clamp(row[chart.high]), stroke: colour, strokeWidth: 1.4, strokeOpacity: 0.55 }),
      ...(chart.dots ? [Plot.dot(known, { x, y, r: 3.5, fill: colour, stroke: "var(--card)", strokeWidth: 0.8 })] : []),
      Plot.tip(known, Plot.pointer({ x, y, title: (row) => hoverText(figure, row), maxRadius: 40, fontSize: 12.5, lineHeight: 1.3, lineWidth: 34 })),
      Plot.tip(alarms, Plot.pointerX({ x: "step", frameAnchor: "top", title: "text", maxRadius: 6, fontSize: 12.5, lineHeight: 1.3, lineWidth: 34 })),
    ],
  });
}

function hoverText(figure, row) {
  if (row.hover) return row.hover;
  const { chart } = figure;
  const unit = unitOf(chart, [row]);
  const value = row[chart.kind === "intervals" ? chart.x : chart.y];
  const ends = chart.low && row[chart.low] !== null && row[chart.low] !== undefined ? ` [${inUnit(row[chart.low], unit)}, ${inUnit(row[chart.high], unit)}]` : "";
  const names = [chart.kind === "intervals" ? row[chart.y] : null, chart.series ? row[chart.series] : null].filter(Boolean);
  const lines = [names.join(": "), `${inUnit(value, unit)}${ends}`];
  if (chart.kind === "lines") lines.push(`${chart.xLabel} ${number(row[chart.x])}`);
  if (row.note) lines.push(row.note);
  return lines.filter(Boolean).join("\n");
}
