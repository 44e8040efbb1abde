/* The response as text, every token coloured by what is known of one arm, or of two beside each other. */
const VERDICT = { cosine: 0, signal: 1, advantage: 2, share: 3, certain: 4, reason: 5 };
const METRICS = ["cosine", "signal", "advantage"];
const STATES = {
  unmeasured: "not measured",
  equal: "nothing to gain or lose here",
  uncertain: "uncertain: the noise of the success rates could turn the sign",
};
const ASKED = 220;
const view = { question: 0, path: 0, teacher: "", other: "", objective: "", metric: 0, node: 0 };

/* Token texts come as plain text and marks in turn. */
function tokenParts(index) {
  return DATA.tokens.strings[index].map((part, place) => (place % 2 ? element("span", { class: "mark" }, part) : part));
}
const tokenText = (index) => DATA.tokens.strings[index].join("");

const currentQuestion = () => DATA.tokens.questions[view.question];
const currentPath = () => currentQuestion().paths[view.path];
const currentNode = () => currentPath().nodes[view.node];
const armIndex = (teacher) => DATA.tokens.arms.findIndex((arm) => arm[0] === teacher && arm[1] === view.objective);
const shownTeachers = () => (view.other ? [view.teacher, view.other] : [view.teacher]);

function verdictOf(node, teacher) {
  const arm = armIndex(teacher);
  return arm < 0 || !node.arms ? null : node.arms[arm];
}

function metricOf(node, teacher) {
  const verdict = verdictOf(node, teacher);
  return verdict === null ? null : verdict[view.metric];
}

/* unmeasured, equal, none (no direction, not scored), uncertain or clear. */
function stateOf(node, teacher) {
  if (node.state !== "measured") return node.state;
  const verdict = verdictOf(node, teacher);
  if (verdict === null || verdict[VERDICT.cosine] === null) return "none";
  return verdict[VERDICT.certain] ? "clear" : "uncertain";
}

/* Both panes share a scale, so that the same colour is the same value. */
function colourScale() {
  if (view.metric === VERDICT.cosine) return 1;
  const sizes = currentPath().nodes.flatMap((node) => shownTeachers().map((teacher) => Math.abs(metricOf(node, teacher) || 0)));
  return Math.max(...sizes, 0) || 1;
}

function tokenClass(node, teacher, scale) {
  const [state, value] = [stateOf(node, teacher), metricOf(node, teacher)];
  if (state !== "clear" && state !== "uncertain") return state;
  const step = Math.min(5, Math.max(1, Math.ceil((Math.abs(value) / scale) * 5 - 1e-9)));
  return `${state} n${step}${value < 0 ? " neg" : ""}`;
}

/* Whether the advice singles a token out: "train" or "skip", else "". */
function singledOut(node) {
  const name = node.advice ? DATA.tokens.advice.names[node.advice[0]] : "";
  return name === "undecided" ? "" : name;
}

function describe(node, teacher, position) {
  const verdict = verdictOf(node, teacher);
  const value = verdict === null ? "not scored" : `cosine ${signed(verdict[VERDICT.cosine], 2)}`;
  const state = STATES[stateOf(node, teacher)];
  return `token ${position}: ${tokenText(node.token)}; ${value}${state ? "; " + state : ""}${singledOut(node) ? "; advice: " + singledOut(node) : ""}`;
}

function drawTokens() {
  const nodes = currentPath().nodes;
  view.node = Math.min(view.node, Math.max(nodes.length - 1, 0));
  const scale = colourScale();
  byId("token-panes").replaceChildren(...shownTeachers().map((teacher, pane) => drawPane(nodes, teacher, scale, pane)));
  byId("token-panes").classList.toggle("two", Boolean(view.other));
  drawKey(scale);
  drawNode();
}

function drawPane(nodes, teacher, scale, pane) {
  const text = element("div", { class: "token-text", role: "group", "aria-label": `Tokens of the response, coloured for ${teacher}` });
  nodes.forEach((node, position) => {
    const advice = singledOut(node);
    text.append(element("button", {
      type: "button",
      class: `tok ${tokenClass(node, teacher, scale)}${advice ? ` advice-${advice}` : ""}`,
      "aria-label": describe(node, teacher, position),
      "aria-pressed": String(position === view.node),
      tabindex: position === view.node && pane === 0 ? "0" : "-1",
      "data-position": position,
    }, ...tokenParts(node.token)));
    if (tokenText(node.token).includes("⏎")) text.append(element("br"));
  });
  if (!nodes.length) text.append(element("p", { class: "absent" }, "This response has no tokens."));
  const measured = nodes.filter((node) => node.state !== "unmeasured").length;
  const note = nodes.length && !measured ? element("p", { class: "note" }, "No token of this response was measured: nothing was branched here. Another response of this question may have been.") : "";
  return element("div", { class: "pane" }, element("h3", {}, element("bdi", {}, teacher)), note, text);
}

function drawKey(scale) {
  const swatch = (name) => element("span", { class: `swatch ${name}` });
  const ramp = element("span", { class: "ramp" });
  for (let step = 5; step >= 1; step -= 1) ramp.append(swatch(`clear neg n${step}`));
  for (let step = 1; step <= 5; step += 1) ramp.append(swatch(`clear n${step}`));
  const end = view.metric === VERDICT.cosine ? "1" : scale.toPrecision(2);
  const entry = (label, ...swatches) => element("span", {}, ...swatches, label);
  const nodes = currentPath().nodes;
  const marks = [["⏎", "line break"], ["·", "space"]].filter(([mark]) => nodes.some((node) => tokenText(node.token).includes(mark)));
  byId("token-key").replaceChildren(
    element("span", { class: "wide" }, `harms, ${METRICS[view.metric]} −${end}`, ramp, `helps, +${end}`),
    entry("uncertain sign", swatch("uncertain neg n4"), swatch("uncertain n4")),
    entry("no difference in success", swatch("equal")),
    entry("no direction", swatch("none")),
    entry("not measured", swatch("unmeasured")),
    ...marks.map(([mark, name]) => entry(name, element("span", { class: "tok" }, mark))),
    ...["train", "skip"].filter((name) => nodes.some((node) => singledOut(node) === name))
      .map((name) => entry(`advice for ${DATA.tokens.advice.arm}: ${name}`, swatch(`advice-${name}`))));
}

function selectNode(position, focus) {
  const panes = [...byId("token-panes").querySelectorAll(".token-text")];
  const count = currentPath().nodes.length;
  if (!count) return;
  view.node = Math.min(Math.max(position, 0), count - 1);
  jumped = null;
  panes.forEach((pane, place) => {
    for (const button of pane.querySelectorAll(".tok")) {
      const chosen = Number(button.dataset.position) === view.node;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen && place === 0 ? 0 : -1;
      if (chosen && focus && place === 0) button.focus();
    }
  });
  drawNode();
}

/* Signals that print as 0.000 are neither harmful nor helpful. */
const NOTICEABLE = 0.0005;
const JUMPS = { "-1": "harmful", 1: "helpful", 0: "uncertain" };

/* Nodes of some responses from the most extreme to the least; clear ones before uncertain ones. */
function ranked(sign, paths) {
  const found = [];
  for (const [question, path] of paths) {
    DATA.tokens.questions[question].paths[path].nodes.forEach((node, position) => {
      const state = stateOf(node, view.teacher);
      if (state !== "clear" && state !== "uncertain") return;
      const signal = verdictOf(node, view.teacher)[VERDICT.signal];
      const wanted = sign === 0 ? state === "uncertain" : sign * signal >= NOTICEABLE;
      if (wanted) found.push({ question, path, position, doubt: state === "uncertain", size: Math.abs(signal) });
    });
  }
  return found.sort((a, b) => a.doubt - b.doubt || b.size - a.size);
}

function pathsInScope() {
  if (byId("jump-scope").value === "response") return [[view.question, view.path]];
  return DATA.tokens.questions.flatMap((question, index) => question.paths.map((_, path) => [index, path]));
}

/* The jump that led to the chosen token; null where the reader came there by another way. */
let jumped = null;

/* The most extreme token, and on further calls the next ones. */
function jump(sign) {
  const found = ranked(sign, pathsInScope());
  if (!found.length) {
    byId("node").replaceChildren(element("p", { class: "absent" }, `No token here is ${JUMPS[sign]} under this teacher and objective, as far as it was measured.`));
    return;
  }
  const next = found[jumped === sign ? (placeAmong(found) + 1) % found.length : 0];
  const moved = next.question !== view.question || next.path !== view.path;
  [view.question, view.path, view.node] = [next.question, next.path, next.position];
  if (moved) drawTokenView();
  selectNode(view.node, true);
  jumped = sign;
}

function placeAmong(found) {
  return found.findIndex((entry) => entry.question === view.question && entry.path === view.path && entry.position === view.node);
}

/* How far up the chosen token stands among the harmful or the helpful ones. */
function standing(node) {
  const verdict = verdictOf(node, view.teacher);
  if (verdict === null || verdict[VERDICT.cosine] === null) return "";
  const sign = verdict[VERDICT.signal] < 0 ? -1 : 1;
  const found = ranked(sign, pathsInScope());
  const place = placeAmong(found);
  if (place < 0) return "";
  const where = byId("jump-scope").selectedOptions[0].textContent;
  const among = `${found.length} ${JUMPS[sign]} tokens of ${where}, by signal`;
  return place ? `Number ${place + 1} of the ${among}.` : `The most ${JUMPS[sign]} of the ${among}.`;
}

function outcomeOf(path) {
  const outcome = path.correct === null ? "outcome unknown" : path.correct ? "correct" : "incorrect";
  return `${outcome}${path.truncated ? ", cut off" : ""}`;
}

function pathLabel(path) {
  const measured = path.nodes.filter((node) => node.state !== "unmeasured").length;
  const who = path.continuation ? `, continued by ${path.continuation}` : "";
  return `${path.id}: ${outcomeOf(path)}, ${measured} of ${path.nodes.length} tokens measured${who}`;
}

function drawControls() {
  const { teachers, arms, questions } = DATA.tokens;
  fill(byId("choose-question"), questions.map((question, index) => [index, shorten(`${question.id} · ${question.prompt}`, 70)]), view.question);
  fill(byId("choose-path"), currentQuestion().paths.map((path, index) => [index, pathLabel(path)]), view.path);
  fill(byId("choose-teacher"), teachers.map((teacher) => [teacher, teacher]), view.teacher);
  if (view.other === view.teacher) view.other = "";
  fill(byId("choose-other"), [["", "nothing"], ...teachers.filter((teacher) => teacher !== view.teacher).map((teacher) => [teacher, teacher])], view.other);
  const objectives = arms.filter(([teacher]) => teacher === view.teacher).map(([, objective]) => objective);
  if (!objectives.includes(view.objective)) view.objective = objectives[0] || "";
  fill(byId("choose-objective"), objectives.map((objective) => [objective, objective]), view.objective);
}

function drawQuestion() {
  const question = currentQuestion();
  const [rate, low, high] = question.success;
  const interval = low === null || high === null ? "" : ` [${percent(low)}, ${percent(high)}]`;
  byId("question-asked").replaceChildren(
    "The student was asked: ", element("q", {}, shortenMiddle(question.prompt, ASKED)), " Right would be ", element("strong", {}, question.answer),
    `. Here response ${currentPath().id}, which is ${outcomeOf(currentPath())}, coloured for `, element("bdi", {}, shownTeachers().join(" and ")), ".");
  byId("question-summary").textContent = `What each teacher saw. The student is right in ${question.correct ?? "–"} of ${question.rollouts ?? "–"} base rollouts: ${percent(rate)}${interval}`;
  byId("question-prompt").textContent = `${question.prompt}\n\nAnswer: ${question.answer}`;
  const names = Object.keys(question.contexts).sort((a, b) => (b === view.teacher) - (a === view.teacher));
  byId("question-context").replaceChildren(
    element("p", {}, "What each teacher saw, the chosen one first:"),
    ...names.map((name) => contextOf(name, question.contexts[name], question.prompts, name === view.teacher)));
}

function contextOf(name, context, prompts, open) {
  const notes = [];
  if (context.instances) notes.push(`mean over ${context.instances} context${context.instances > 1 ? "s" : ""}, the most probable shown`);
  if (context.demos.length) notes.push(`rollout${context.demos.length > 1 ? "s" : ""} ${context.demos.join(", ")}${context.by ? ` of ${context.by}` : ""} shown`);
  if (context.demos.length && context.summariser) notes.push(`summed up by ${context.summariser}`);
  if (context.skipped) notes.push(`skipped for this question: ${context.reason || "no reason was recorded"}`);
  const text = context.prompt === null
    ? element("p", { class: "absent" }, "Nothing: it was not asked.")
    : element("pre", {}, prompts[context.prompt]);
  const made = element("details", { class: "seen" }, element("summary", {}, element("bdi", {}, name), notes.length ? ` (${notes.join("; ")})` : ""), text);
  made.open = open;
  return made;
}

function drawTokenView() {
  drawControls();
  drawQuestion();
  drawTokens();
}

/* The path with the most measured tokens, and in it the most harmful or helpful token. */
function startOfQuestion() {
  const measured = currentQuestion().paths.map((path) => path.nodes.filter((node) => node.state !== "unmeasured").length);
  view.path = measured.indexOf(Math.max(...measured));
  startOfPath();
}

function startOfPath() {
  const here = [[view.question, view.path]];
  const found = [-1, 1, 0].map((sign) => ranked(sign, here)[0]).find(Boolean);
  view.node = found ? found.position : Math.max(currentPath().nodes.findIndex((node) => node.state !== "unmeasured"), 0);
}

function openQuestion(id) {
  const place = DATA.tokens.questions.findIndex((question) => question.id === id);
  if (place < 0) return;
  view.question = place;
  startOfQuestion();
  drawTokenView();
  byId("tokens").scrollIntoView();
  selectNode(view.node, true);
}

function step(name, by) {
  const select = byId(`choose-${name}`);
  const count = select.options.length;
  select.selectedIndex = (select.selectedIndex + by + count) % count;
  select.dispatchEvent(new Event("change"));
}

function startTokens() {
  if (!DATA.tokens || !DATA.tokens.questions.length) return;
  const [teacher, objective] = DATA.tokens.start || [];
  const { arms } = DATA.tokens;
  [view.teacher, view.objective] = arms.find((arm) => arm[0] === teacher && arm[1] === objective) || arms[0] || ["", ""];
  const choose = (name, act) => byId(`choose-${name}`).addEventListener("change", (event) => { act(event.target.value); drawTokenView(); });
  choose("question", (value) => { view.question = Number(value); startOfQuestion(); });
  choose("path", (value) => { view.path = Number(value); startOfPath(); });
  choose("teacher", (value) => { view.teacher = value; });
  choose("other", (value) => { view.other = value; });
  choose("objective", (value) => { view.objective = value; });
  choose("metric", (value) => { view.metric = Number(value); });
  for (const [name, sign] of [["harm", -1], ["help", 1], ["doubt", 0]]) byId(`jump-${name}`).addEventListener("click", () => jump(sign));
  byId("jump-scope").addEventListener("change", () => { jumped = null; drawNode(); });
  const panes = byId("token-panes");
  panes.addEventListener("click", (event) => {
    const button = event.target.closest(".tok");
    if (button) selectNode(Number(button.dataset.position), true);
  });
  byId("token-view").hidden = false;
  const everywhere = pathsInScope();
  const first = [-1, 1, 0].map((sign) => ranked(sign, everywhere)[0]).find(Boolean);
  if (first) [view.question, view.path, view.node] = [first.question, first.path, first.position];
  else startOfQuestion();
  drawTokenView();
}
