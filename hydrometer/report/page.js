"use strict";
(() => {
  const data = JSON.parse(document.getElementById("token-data").textContent);
  const VERDICT = { cosine: 0, signal: 1, advantage: 2, kl: 3, share: 4, reason: 5 };
  const NODE = { mass: 0, entropy: 1, value: 2, gap: 3 };
  const CANDIDATE = { token: 0, p: 1, rate: 2, low: 3, high: 4, visits: 5, kept: 6, drawn: 7, g: 8, q: 9, d: 10 };
  const METRICS = ["cosine", "signal", "advantage"];
  const STATES = {
    unmeasured: "not measured",
    equal: "nothing to gain or lose here",
    uncertain: "uncertain: the success intervals of all candidates overlap, noise could turn the sign",
    clear: "",
  };
  const byId = (id) => document.getElementById(id);
  const view = { question: 0, path: 0, teacher: "", objective: "", metric: 0, node: 0 };

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function vector(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  /* Token texts come as plain text and marks in turn; only textContent is ever written. */
  function tokenParts(index) {
    return data.strings[index].map((part, place) => (place % 2 ? element("span", { class: "mark" }, part) : part));
  }
  const tokenText = (index) => data.strings[index].join("");

  function signed(value, digits) {
    if (value === null || value === undefined) return "–";
    const text = value.toFixed(digits);
    return Number(text) === 0 ? (0).toFixed(digits) : (value > 0 ? "+" : "−") + text.replace("-", "");
  }
  const plain = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  function probability(value) {
    if (value === null || value === undefined) return "–";
    return value >= 0.0995 ? value.toFixed(2) : value >= 0.00095 ? value.toFixed(3) : value === 0 ? "0" : "<0.001";
  }

  const currentPath = () => data.questions[view.question].paths[view.path];
  const armIndex = () => data.arms.findIndex(([teacher, objective]) => teacher === view.teacher && objective === view.objective);
  function verdictOf(node) {
    const arm = armIndex();
    return arm < 0 ? null : node.arms[arm];
  }
  function metricOf(node) {
    const verdict = verdictOf(node);
    return verdict === null ? null : verdict[view.metric];
  }
  function colourScale() {
    if (view.metric === VERDICT.cosine) return 1;
    const sizes = currentPath().nodes.map((node) => Math.abs(metricOf(node) || 0));
    return Math.max(...sizes, 0) || 1;
  }

  function tokenClass(node, scale) {
    const value = metricOf(node);
    if (node.state === "unmeasured" || node.state === "equal") return node.state;
    if (value === null || verdictOf(node)[VERDICT.cosine] === null) return "none";
    const step = Math.min(5, Math.max(1, Math.ceil((Math.abs(value) / scale) * 5 - 1e-9)));
    return `${node.state} n${step}${value < 0 ? " neg" : ""}`;
  }

  /* Whether the advice singles a token out: "train" or "skip", else "". */
  function singledOut(node) {
    const name = node.advice ? data.advice.names[node.advice[0]] : "";
    return name === "undecided" ? "" : name;
  }

  function adviceText(node) {
    if (!data.advice.arm) return "";
    if (!node.advice) return `Advice (${data.advice.arm}): none, not a measured node of that arm.`;
    const [code, signal, error] = node.advice;
    const predicted = signal === null ? "no rule was fitted" : `predicted signal ${signed(signal, 4)}, standard error ${plain(error, 4)}`;
    return `Advice (${data.advice.arm}): ${data.advice.names[code]}; ${predicted}.`;
  }

  function describe(node, position) {
    const verdict = verdictOf(node);
    const value = verdict === null ? "not scored" : `cosine ${signed(verdict[VERDICT.cosine], 2)}`;
    return `token ${position}: ${tokenText(node.token)}; ${value}${STATES[node.state] ? "; " + STATES[node.state] : ""}${singledOut(node) ? "; advice: " + singledOut(node) : ""}`;
  }

  function drawTokens() {
    const host = byId("token-text");
    const scale = colourScale();
    const nodes = currentPath().nodes;
    view.node = Math.min(view.node, Math.max(nodes.length - 1, 0));
    host.replaceChildren();
    nodes.forEach((node, position) => {
      const button = element("button", {
        type: "button",
        class: `tok ${tokenClass(node, scale)}${singledOut(node) ? ` advice-${singledOut(node)}` : ""}`,
        "aria-label": describe(node, position),
        "aria-pressed": String(position === view.node),
        tabindex: position === view.node ? "0" : "-1",
        "data-position": position,
      }, ...tokenParts(node.token));
      host.append(button);
      if (tokenText(node.token).includes("⏎")) host.append(element("br"));
    });
    if (!nodes.length) host.append(element("p", { class: "absent" }, "This response has no tokens."));
    drawKey(scale);
    drawNode();
  }

  function drawKey(scale) {
    const swatch = (name) => element("span", { class: `swatch ${name}` });
    const ramp = element("span", { class: "ramp" });
    for (let step = 5; step >= 1; step -= 1) ramp.append(swatch(`clear neg n${step}`));
    for (let step = 1; step <= 5; step += 1) ramp.append(swatch(`clear n${step}`));
    const end = view.metric === VERDICT.cosine ? "1" : scale.toPrecision(2);
    const name = METRICS[view.metric];
    const entry = (label, ...swatches) => element("span", {}, ...swatches, label);
    byId("token-key").replaceChildren(
      element("span", { class: "wide" }, `harms, ${name} −${end}`, ramp, `helps, +${end}`),
      entry("uncertain sign", swatch("uncertain neg"), swatch("uncertain")),
      entry("no difference in success", swatch("equal")),
      entry("no direction or not scored", swatch("none")),
      entry("not measured", swatch("unmeasured")),
      ...["train", "skip"].filter((name) => currentPath().nodes.some((node) => singledOut(node) === name))
        .map((name) => entry(`advice for ${data.advice.arm}: ${name}`, swatch(`advice-${name}`))));
  }

  function selectNode(position, focus) {
    const host = byId("token-text");
    const buttons = host.querySelectorAll(".tok");
    if (!buttons.length) return;
    view.node = Math.min(Math.max(position, 0), buttons.length - 1);
    buttons.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(index === view.node));
      button.tabIndex = index === view.node ? 0 : -1;
    });
    if (focus) buttons[view.node].focus();
    drawNode();
  }

  function numbers(pairs) {
    return element("dl", { class: "numbers" }, ...pairs.map(([name, value, title]) =>
      element("div", title ? { title } : {}, element("dt", {}, name), element("dd", {}, value))));
  }

  function rangeOf(candidate) {
    if (candidate[CANDIDATE.rate] === null) return element("span", {}, "–");
    const picture = vector("svg", { role: "img", "aria-label": "success interval" });
    const percent = (share) => `${(100 * share).toFixed(1)}%`;
    picture.append(vector("line", { class: "frame", x1: "0", x2: "100%", y1: 7, y2: 7 }));
    if (candidate[CANDIDATE.low] !== null && candidate[CANDIDATE.high] !== null) {
      picture.append(vector("line", { x1: percent(candidate[CANDIDATE.low]), x2: percent(candidate[CANDIDATE.high]), y1: 7, y2: 7 }));
    }
    picture.append(vector("circle", { cx: percent(candidate[CANDIDATE.rate]), cy: 7, r: 3.5 }));
    const text = `${plain(candidate[CANDIDATE.rate], 2)} [${plain(candidate[CANDIDATE.low], 2)}, ${plain(candidate[CANDIDATE.high], 2)}]`;
    return element("span", { class: "range" }, text, picture);
  }

  function meter(value) {
    const bar = element("i", {});
    bar.style.width = `${100 * (value || 0)}%`;
    return element("span", {}, probability(value), element("span", { class: "meter" }, bar));
  }

  function push(value, largest) {
    if (value === null || value === undefined) return element("span", {}, "–");
    const bar = element("i", { class: value < 0 ? "down" : "up" });
    const width = largest > 0 ? (50 * Math.abs(value)) / largest : 0;
    bar.style.width = `${width}%`;
    bar.style.left = `${value < 0 ? 50 - width : 50}%`;
    return element("span", { class: "push", title: value.toPrecision(3), role: "img", "aria-label": value.toPrecision(3) }, bar);
  }

  function candidateTable(node) {
    const arm = armIndex();
    const teacher = data.teachers.indexOf(view.teacher);
    const direction = (candidate) => (arm < 0 ? null : candidate[CANDIDATE.d][arm]);
    const largest = (read) => Math.max(...node.candidates.map((candidate) => Math.abs(read(candidate) || 0)), 0);
    const ideal = (candidate) => candidate[CANDIDATE.g];
    const [largestIdeal, largestDirection] = [largest(ideal), largest(direction)];
    const heads = ["token", "student p", "teacher q", "success rate, 95 %", "visits", "kept", "ideal g", "teacher d"];
    const rows = node.candidates.map((candidate) => element("tr", {
      class: `${candidate[CANDIDATE.kept] ? "" : "dropped"} ${candidate[CANDIDATE.drawn] ? "drawn" : ""}`,
    },
    element("td", { class: "token-cell" }, element("span", { class: "tok" }, ...tokenParts(candidate[CANDIDATE.token]))),
    element("td", {}, meter(candidate[CANDIDATE.p])),
    element("td", {}, meter(teacher < 0 ? null : candidate[CANDIDATE.q][teacher])),
    element("td", {}, rangeOf(candidate)),
    element("td", {}, String(candidate[CANDIDATE.visits] ?? "–")),
    element("td", {}, candidate[CANDIDATE.kept] ? "yes" : "no"),
    element("td", {}, push(ideal(candidate), largestIdeal)),
    element("td", {}, push(direction(candidate), largestDirection))));
    return element("div", { class: "node-scroll" }, element("table", { class: "candidates" },
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows)));
  }

  function reasonInWords(code) {
    return code && Object.hasOwn(data.reasons, code) ? data.reasons[code] : "";
  }

  function sentence(node, verdict) {
    if (node.state === "unmeasured" || node.state === "equal") {
      const reason = reasonInWords(node.reason);
      return reason ? `${STATES[node.state]}: ${reason}` : STATES[node.state];
    }
    if (verdict === null) return "this teacher and objective were not scored here";
    if (verdict[VERDICT.cosine] === null) return reasonInWords(verdict[VERDICT.reason]) || "no cosine";
    const effect = verdict[VERDICT.cosine] > 0 ? "the teacher pulls towards success here" : "the teacher pulls away from success here";
    return node.state === "uncertain" ? `${effect}, but ${STATES.uncertain}` : effect;
  }

  function drawNode() {
    const node = currentPath().nodes[view.node];
    const host = byId("node");
    if (!node) return host.replaceChildren();
    const verdict = verdictOf(node);
    const read = (key, digits) => (verdict === null ? "–" : signed(verdict[key], digits));
    const size = (key, digits) => (verdict === null ? "–" : plain(verdict[key], digits));
    const kept = node.candidates.filter((candidate) => candidate[CANDIDATE.kept]).length;
    host.replaceChildren(
      element("h3", {}, `Position ${view.node}: `, element("span", { class: "tok" }, ...tokenParts(node.token))),
      element("p", { class: "sentence" }, sentence(node, verdict) + (kept === 2 && verdict !== null && verdict[VERDICT.cosine] !== null ? " (two kept candidates: a cosine can only be +1 or −1)" : "") + "."),
      numbers([
        ["cosine", read(VERDICT.cosine, 2)], ["signal", read(VERDICT.signal, 3)], ["advantage", read(VERDICT.advantage, 3)],
        ["reverse KL, nats", size(VERDICT.kl, 3)],
        ["on kept tokens", verdict === null || verdict[VERDICT.share] === null ? "–" : `${(100 * verdict[VERDICT.share]).toFixed(0)} %`, "share of the teacher's full |d|² at this node that lies on kept candidates"],
        ["success gap", plain(node.numbers[NODE.gap], 2)], ["entropy, nats", plain(node.numbers[NODE.entropy], 2)],
        ["kept mass", plain(node.numbers[NODE.mass], 2), "student probability on kept candidates"],
      ]));
    if (adviceText(node)) host.append(element("p", { class: "hint advice" }, adviceText(node)));
    if (node.candidates.length) host.append(candidateTable(node));
    else host.append(element("p", { class: "absent" }, "No candidate is stored here."));
    if (node.hidden) host.append(element("p", { class: "hint" }, `${node.hidden} more candidates are in candidates.parquet.`));
    host.append(element("p", { class: "hint" }, "Framed: the token that was drawn. Bars are scaled to the largest of their column; right = up."));
  }

  function fill(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => {
      const option = element("option", { value }, text);
      option.selected = String(value) === String(chosen);
      return option;
    }));
  }

  function shorten(text, length) {
    const characters = Array.from(text.replace(/\s+/g, " "));
    return characters.length > length ? characters.slice(0, length).join("") + "…" : characters.join("");
  }

  function pathLabel(path) {
    const outcome = path.correct === null ? "outcome unknown" : path.correct ? "correct" : "incorrect";
    const measured = path.nodes.filter((node) => node.state !== "unmeasured").length;
    const who = path.continuation ? `, continued by ${path.continuation}` : "";
    return `${path.id}: ${outcome}${path.truncated ? ", cut off" : ""}, ${measured} of ${path.nodes.length} tokens measured${who}`;
  }

  function drawControls() {
    fill(byId("choose-question"), data.questions.map((question, index) => [index, shorten(`${question.id} · ${question.prompt}`, 70)]), view.question);
    fill(byId("choose-path"), data.questions[view.question].paths.map((path, index) => [index, pathLabel(path)]), view.path);
    fill(byId("choose-teacher"), data.teachers.map((teacher) => [teacher, teacher]), view.teacher);
    const objectives = data.arms.filter(([teacher]) => teacher === view.teacher).map(([, objective]) => objective);
    if (!objectives.includes(view.objective)) view.objective = objectives[0] || "";
    fill(byId("choose-objective"), objectives.map((objective) => [objective, objective]), view.objective);
  }

  function drawQuestion() {
    const question = data.questions[view.question];
    const [rate, low, high] = question.success;
    const interval = low === null || high === null ? "" : ` [${plain(low, 2)}, ${plain(high, 2)}]`;
    byId("question-summary").textContent =
      `Question, answer, what the teachers saw (student right in ${question.correct ?? "–"} of ${question.rollouts ?? "–"} base rollouts, ${plain(rate, 2)}${interval})`;
    byId("question-prompt").textContent = `${question.prompt}\n\nAnswer: ${question.answer}`;
    const names = Object.keys(question.contexts).sort((a, b) => (b === view.teacher) - (a === view.teacher));
    byId("question-context").replaceChildren(
      element("p", {}, "What each teacher saw, the chosen one first:"),
      ...names.map((name) => contextOf(name, question.contexts[name], question.prompts, name === view.teacher)));
  }

  function contextOf(name, context, prompts, open) {
    const notes = [];
    if (context.demos.length) notes.push(`rollout${context.demos.length > 1 ? "s" : ""} ${context.demos.join(", ")}${context.by ? ` of ${context.by}` : ""} shown`);
    if (context.demos.length && context.summariser) notes.push(`summed up by ${context.summariser}`);
    if (context.skipped) notes.push(`skipped for this question: ${context.reason || "no reason was recorded"}`);
    const summary = element("summary", {}, element("bdi", {}, name), notes.length ? ` (${notes.join("; ")})` : "");
    const text = context.prompt === null
      ? element("p", { class: "absent" }, "Nothing: it was not asked.")
      : element("pre", {}, prompts[context.prompt]);
    const made = element("details", { class: "seen" }, summary, text);
    made.open = open;
    return made;
  }

  function draw() {
    drawControls();
    drawQuestion();
    drawTokens();
  }

  /* The most extreme clear token, or the most extreme uncertain one where none is clear. */
  function extreme(sign) {
    const nodes = currentPath().nodes;
    for (const state of ["clear", "uncertain"]) {
      let best = -1;
      nodes.forEach((node, position) => {
        const verdict = verdictOf(node);
        const signal = verdict === null || node.state !== state ? null : verdict[VERDICT.signal];
        if (signal === null || sign * signal <= 0) return;
        if (best < 0 || sign * signal > sign * verdictOf(nodes[best])[VERDICT.signal]) best = position;
      });
      if (best >= 0) return best;
    }
    return -1;
  }

  function jump(sign) {
    const found = extreme(sign);
    if (found >= 0) selectNode(found, true);
    else byId("node").replaceChildren(element("p", { class: "absent" },
      `No token of this response is ${sign < 0 ? "harmed" : "helped"} by this teacher and objective, as far as it was measured.`));
  }

  function start() {
    const [teacher, objective] = data.start || [];
    const first = data.arms.find((arm) => arm[0] === teacher && arm[1] === objective) || data.arms[0] || ["", ""];
    [view.teacher, view.objective] = first;
    const choose = (id, act) => byId(id).addEventListener("change", (event) => { act(event.target.value); draw(); });
    const reset = () => {
      const found = [extreme(-1), extreme(1)].filter((position) => position >= 0);
      view.node = found.find((position) => currentPath().nodes[position].state === "clear") ?? found[0] ?? 0;
    };
    choose("choose-question", (value) => { view.question = Number(value); view.path = 0; reset(); });
    choose("choose-path", (value) => { view.path = Number(value); reset(); });
    choose("choose-teacher", (value) => { view.teacher = value; });
    choose("choose-objective", (value) => { view.objective = value; });
    choose("choose-metric", (value) => { view.metric = Number(value); });
    byId("jump-harm").addEventListener("click", () => jump(-1));
    byId("jump-help").addEventListener("click", () => jump(1));
    const text = byId("token-text");
    text.addEventListener("click", (event) => {
      const button = event.target.closest(".tok");
      if (button) selectNode(Number(button.dataset.position), true);
    });
    text.addEventListener("keydown", (event) => {
      const last = currentPath().nodes.length - 1;
      const target = { ArrowRight: view.node + 1, ArrowLeft: view.node - 1, Home: 0, End: last }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      selectNode(target, true);
    });
    byId("token-view").hidden = false;
    reset();
    draw();
  }

  start();
})();
