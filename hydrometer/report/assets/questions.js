/* The table of questions: sorted by a click on a head, filtered by text; a click on a row opens the question. */
const asked = { sort: "disagreement", down: true, text: "", informative: false, objective: 0 };

function bestArm(row) {
  const { arms, objectives } = DATA.questions;
  let best = -1;
  arms.forEach(([, objective], place) => {
    const value = row.cosines[place];
    if (objective !== objectives[asked.objective] || value === null) return;
    if (best < 0 || value > row.cosines[best]) best = place;
  });
  return best;
}

const QUESTION_COLUMNS = [
  { key: "id", label: "Question", value: (row) => row.id, title: "" },
  { key: "success", label: "Student's success, 95 %", value: (row) => row.success[0], title: "Share of the base rollouts that are correct" },
  { key: "measured", label: "Measured", value: (row) => row.measured, title: "Tokens with two or more candidates whose success rates are known" },
  { key: "best", label: "Best teacher here", value: (row) => row.cosines[bestArm(row)] ?? null, title: "Largest pooled cosine over the question's measured nodes, not corrected for noise: a hint where to look, not a result" },
  { key: "disagreement", label: "Teachers disagree by", value: (row) => row.disagreement[asked.objective], title: "Mean over nodes of the largest minus the smallest cosine of the teachers" },
];

function shownQuestions() {
  const words = asked.text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = DATA.questions.rows.filter((row) => (!asked.informative || row.informative) && words.every((word) => `${row.id} ${row.prompt}`.toLowerCase().includes(word)));
  const { value } = QUESTION_COLUMNS.find((column) => column.key === asked.sort);
  const sign = asked.down ? -1 : 1;
  return rows.map((row, place) => ({ row, place, key: value(row) })).sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
    return sign * (typeof a.key === "string" ? a.key.localeCompare(b.key, "en", { numeric: true }) : a.key - b.key) || a.place - b.place;
  }).map(({ row }) => row);
}

function strip(row, best) {
  const { arms, objectives } = DATA.questions;
  const picture = vector("svg", { class: "strip", width: 120, height: 16, role: "img", "aria-label": "cosines of all teachers from −1 to +1" });
  picture.append(vector("line", { class: "frame", x1: 4, x2: 116, y1: 8, y2: 8 }), vector("line", { class: "zero", x1: 60, x2: 60, y1: 2, y2: 14 }));
  arms.forEach(([teacher, objective], place) => {
    const value = row.cosines[place];
    if (objective !== objectives[asked.objective] || value === null) return;
    picture.append(vector("circle", { cx: 60 + 56 * value, cy: 8, r: place === best ? 4 : 2.6, class: place === best ? "best" : "" }, vector("title", {}, `${teacher}: ${signed(value, 2)}`)));
  });
  return picture;
}

function questionRow(row) {
  const best = bestArm(row);
  const [rate, low, high] = row.success;
  const inPage = DATA.tokens.questions.some((question) => question.id === row.id);
  const name = inPage ? element("button", { type: "button", class: "open" }, row.id) : element("span", {}, row.id);
  const made = element("tr", inPage ? { class: "opens" } : { title: "left out of this file to keep it small" },
    element("th", { scope: "row" }, name, element("small", {}, row.prompt)),
    element("td", {}, rate === null ? "–" : `${percent(rate)}`, element("small", {}, low === null ? "" : `[${percent(low)}, ${percent(high)}], n = ${row.rollouts}`), row.informative === false ? element("small", {}, "not informative") : ""),
    element("td", {}, number(row.measured)),
    element("td", {}, best < 0 ? "–" : element("span", { class: "best-teacher" }, element("bdi", {}, DATA.questions.arms[best][0]), ` ${signed(row.cosines[best], 2)}`), best < 0 ? "" : strip(row, best)),
    element("td", {}, plain(row.disagreement[asked.objective], 2)));
  if (inPage) {
    made.addEventListener("click", () => {
      if (best >= 0) [view.teacher, view.objective] = DATA.questions.arms[best];
      openQuestion(row.id);
    });
  }
  return made;
}

function drawQuestions() {
  const rows = shownQuestions();
  const heads = QUESTION_COLUMNS.map((column) => {
    const active = column.key === asked.sort;
    const button = element("button", { type: "button", title: column.title || "Sort", "data-sort": column.key }, column.label, active ? (asked.down ? " ↓" : " ↑") : "");
    button.addEventListener("click", () => {
      asked.down = active ? !asked.down : column.key !== "id";
      asked.sort = column.key;
      drawQuestions();
      byId("question-table").querySelector(`[data-sort="${column.key}"]`).focus();
    });
    return element("th", { scope: "col", "aria-sort": active ? (asked.down ? "descending" : "ascending") : "none" }, button);
  });
  byId("question-table").replaceChildren(element("table", { class: "questions" },
    element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows.map(questionRow))));
  byId("question-count").textContent = `${rows.length} of ${DATA.questions.rows.length} questions`;
}

function startQuestions() {
  if (!DATA.questions || !byId("question-table")) return;
  const { objectives } = DATA.questions;
  const started = objectives.indexOf(DATA.tokens.start?.[1]);
  asked.objective = Math.max(started, 0);
  fill(byId("question-objective"), objectives.map((name, place) => [place, name]), asked.objective);
  byId("question-objective").closest("label").hidden = objectives.length < 2;
  byId("question-objective").addEventListener("change", (event) => { asked.objective = Number(event.target.value); drawQuestions(); });
  byId("question-filter").addEventListener("input", (event) => { asked.text = event.target.value; drawQuestions(); });
  byId("question-informative").addEventListener("change", (event) => { asked.informative = event.target.checked; drawQuestions(); });
  byId("question-view").hidden = false;
  drawQuestions();
}
