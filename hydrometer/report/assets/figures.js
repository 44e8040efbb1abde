/* A figure on the page: choices above it, the chart, its numbers as a table, and what can be saved. */
const HIDDEN_COLUMNS = ["hover", "unit", "scale"];
const FIGURES = [];
const NARROW = 600;
const MANY = 12; /* lines of a figure that takes the whole width */

function rowsOf(figure) {
  return figure.rows.map((row) => Object.fromEntries(figure.columns.map((name, place) => [name, row[place]])));
}

class FigureView {
  constructor(host, figure) {
    this.host = host;
    this.figure = figure;
    this.rows = rowsOf(figure);
    this.hidden = new Set();
    this.choice = {};
    this.width = 0;
    const { kind, y } = figure.chart;
    if (kind === "intervals" && distinct(this.rows.map((row) => row[y])).length > MANY) host.classList.add("wide");
    this.plot = element("div", { class: "plot" });
    this.legend = element("div", { class: "series" });
    this.choices = element("div", { class: "choices" });
    this.table = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers of ${figure.title}` });
    this.numbers = element("details", { class: "numbers-table" }, element("summary", {}, "Numbers"), this.table);
    this.numbers.addEventListener("toggle", () => this.drawTable());
    host.replaceChildren(
      element("figcaption", {}, element("h3", {}, figure.title), element("p", { class: "note" }, figure.note)),
      this.choices, this.legend, this.plot,
      element("div", { class: "foot" }, this.numbers, this.saves()));
  }

  /* Where there is no room for panels beside each other, a reader chooses one. */
  filters() {
    const { panel } = this.figure.chart;
    return panel && this.width < NARROW ? [...this.figure.filters, panel] : this.figure.filters;
  }

  chosenRows() {
    return this.rows.filter((row) => this.filters().every((name) => row[name] === this.choice[name]));
  }

  allSeries() {
    const { series } = this.figure.chart;
    return series ? distinct(this.rows.map((row) => row[series])) : [];
  }

  draw() {
    this.width = Math.max(Math.floor(this.plot.clientWidth), 240);
    this.drawChoices();
    this.drawLegend();
    const { series } = this.figure.chart;
    const rows = this.chosenRows().filter((row) => !series || !this.hidden.has(row[series]));
    const here = new Set(rows.map((row) => row[series]));
    const shown = this.figure.chart.kind === "lines" ? this.allSeries() : this.allSeries().filter((name) => here.has(name));
    if (rows.length) this.plot.replaceChildren(drawChart(this.figure, rows, this.width, shown.length || this.figure.chart.kind === "intervals" ? shown : [""]));
    else this.plot.replaceChildren(element("p", { class: "absent" }, "Nothing to draw for this choice."));
    if (this.numbers.open) this.drawTable();
  }

  drawChoices() {
    const filters = this.filters();
    const leading = DATA.tokens?.start?.[1]; /* the objective of the arm in front */
    const selects = filters.flatMap((name, place) => {
      const offered = distinct(this.rows.filter((row) => filters.slice(0, place).every((other) => row[other] === this.choice[other])).map((row) => row[name]));
      if (!offered.includes(this.choice[name])) this.choice[name] = offered.includes(leading) ? leading : offered[0];
      if (offered.length < 2) return [];
      const select = element("select", { "data-choice": name });
      fill(select, offered.map((value) => [value, value]), this.choice[name]);
      select.addEventListener("change", () => { this.choice[name] = select.value; this.draw(); });
      return [element("label", {}, name[0].toUpperCase() + name.slice(1), select)];
    });
    const focused = this.choices.contains(document.activeElement) ? document.activeElement.dataset.choice : null;
    this.choices.replaceChildren(...selects);
    if (focused) this.choices.querySelector(`[data-choice="${CSS.escape(focused)}"]`)?.focus();
  }

  drawLegend() {
    const { series, kind } = this.figure.chart;
    const here = new Set(this.chosenRows().map((row) => row[series]));
    const all = this.allSeries();
    const named = all.filter((name) => here.has(name));
    const colours = kind === "lines" ? all : named;
    this.legend.hidden = named.length < 2;
    this.legend.replaceChildren(...named.map((name) => {
      const place = colours.indexOf(name);
      const swatch = vector("svg", { width: 22, height: 10, "aria-hidden": "true" },
        vector("line", { x1: 1, x2: 21, y1: 5, y2: 5, "stroke-width": 2.5, "stroke-dasharray": kind === "lines" ? seriesDash(place) : "", style: `stroke: ${seriesColour(place)}` }));
      const button = element("button", { type: "button", "aria-pressed": String(!this.hidden.has(name)), title: "show or hide" }, swatch, name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        this.draw();
      });
      return button;
    }));
  }

  drawTable() {
    if (!this.numbers.open) return;
    const { columns, rows } = this.figure.table || this.longTable();
    this.table.replaceChildren(element("table", {},
      element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell)))))));
  }

  longTable() {
    const columns = this.figure.columns.filter((name) => !HIDDEN_COLUMNS.includes(name));
    const measures = new Set(["value", "low", "high", "narrow_low", "narrow_high"]);
    const text = (row, name) => (measures.has(name) ? inUnit(row[name], unitOf(this.figure.chart, [row])) : number(row[name]));
    return { columns: columns.map((name) => name.replaceAll("_", " ")), rows: this.chosenRows().map((row) => columns.map((name) => text(row, name))) };
  }

  saves() {
    const entry = (label, act) => {
      const button = element("button", { type: "button", class: "save", title: `Save this figure as ${label}` }, label);
      button.addEventListener("click", act);
      return button;
    };
    return element("div", { class: "saves" }, "Save: ", entry("SVG", () => this.saveSvg()), entry("PNG", () => this.savePng()), entry("CSV", () => this.saveCsv()));
  }

  /* The figure as a picture of its own: title, legend and chart, with every colour spelled out. */
  picture() {
    const chart = this.plot.querySelector("svg");
    if (!chart) return null;
    const styles = getComputedStyle(document.documentElement);
    const [ink, card] = ["--ink", "--card"].map((name) => resolveColour(`var(${name})`));
    const copy = spelledOut(chart);
    const chosen = this.filters().map((name) => this.choice[name]).join(", ");
    const title = chosen ? `${this.figure.title}: ${chosen}` : this.figure.title;
    const legend = vector("g", {});
    let [left, top] = [12, 46];
    for (const button of this.legend.hidden ? [] : this.legend.children) {
      if (button.getAttribute("aria-pressed") !== "true") continue;
      const name = button.textContent;
      const room = 34 + 7.2 * name.length;
      if (left > 12 && left + room > this.width) [left, top] = [12, top + 18];
      const line = spelledOut(button.querySelector("svg"));
      line.setAttribute("x", left);
      line.setAttribute("y", top - 9);
      legend.append(line, vector("text", { x: left + 27, y: top, fill: ink, "font-size": 12 }, name));
      left += room;
    }
    const head = legend.childNodes.length ? top + 12 : 36;
    const height = head + Number(chart.getAttribute("height")) + 8;
    copy.setAttribute("y", head);
    const family = styles.fontFamily || "sans-serif";
    return vector("svg", { xmlns: "http://www.w3.org/2000/svg", width: this.width, height, viewBox: `0 0 ${this.width} ${height}`, "font-family": family },
      vector("rect", { width: "100%", height: "100%", fill: card }),
      vector("text", { x: 12, y: 24, fill: ink, "font-size": 15, "font-weight": 600 }, title), legend, copy,
      vector("desc", {}, this.figure.note));
  }

  saveSvg() {
    const picture = this.picture();
    if (picture) saveFile(`${this.figure.key}.svg`, "image/svg+xml", new XMLSerializer().serializeToString(picture));
  }

  savePng() {
    const picture = this.picture();
    if (!picture) return;
    const [width, height] = ["width", "height"].map((name) => Number(picture.getAttribute(name)));
    const image = new Image();
    image.onload = () => {
      const canvas = element("canvas", { width: 2 * width, height: 2 * height });
      const context = canvas.getContext("2d");
      context.scale(2, 2);
      context.drawImage(image, 0, 0);
      canvas.toBlob((blob) => saveFile(`${this.figure.key}.png`, "image/png", blob));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(picture))}`;
  }

  saveCsv() {
    const columns = this.figure.columns.filter((name) => name !== "hover");
    const line = (cells) => cells.map(csvCell).join(",");
    saveFile(`${this.figure.key}.csv`, "text/csv", [line(columns), ...this.rows.map((row) => line(columns.map((name) => row[name])))].join("\r\n") + "\r\n");
  }
}

/* Text that a spreadsheet would take for a formula is kept text by a leading apostrophe. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const harmless = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

function saveFile(name, type, content) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function resolveColour(value) {
  const probe = element("i", { style: `color: ${value}; display: none` });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/* A copy of a picture that does not need this page's style sheet. */
function spelledOut(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [[svg, ...svg.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  from.forEach((original, place) => {
    const style = getComputedStyle(original);
    for (const name of ["fill", "stroke"]) {
      const given = original.getAttribute(name) || original.style.getPropertyValue(name);
      if (given && /var\(|currentColor/.test(given)) to[place].setAttribute(name, style.getPropertyValue(name));
    }
    if (original.style.getPropertyValue("stroke")) to[place].style.stroke = style.stroke;
  });
  copy.querySelectorAll("style, [aria-label=tip]").forEach((node) => node.remove());
  copy.setAttribute("color", getComputedStyle(svg).color);
  copy.setAttribute("font-size", 11);
  return copy;
}

/* Figures are drawn when they come near the window, and again when its width changes. */
function placeFigures() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      FIGURES.find((view) => view.host === entry.target)?.draw();
    }
  }, { rootMargin: "400px" });
  for (const host of document.querySelectorAll("figure[data-figure]")) {
    const view = new FigureView(host, DATA.figures[host.dataset.figure]);
    FIGURES.push(view);
    seen.observe(host);
  }
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redrawFigures, 150);
  });
  window.addEventListener("beforeprint", () => FIGURES.forEach((view) => view.draw()));
}

function redrawFigures() {
  for (const view of FIGURES) if (view.width && view.plot.clientWidth !== view.width) view.draw();
}
