/* The chosen node: its numbers, its candidates, and some of the rollouts through each. */
const NODE = { mass: 0, entropy: 1, value: 2, gap: 3 };
const CANDIDATE = { token: 0, p: 1, rate: 2, low: 3, high: 4, visits: 5, kept: 6, drawn: 7, g: 8, q: 9, d: 10, examples: 11 };
const TEXT = { text: 0, correct: 1, kind: 2, truncated: 3 };

function rangeOf(candidate) {
  if (candidate[CANDIDATE.rate] === null) return element("span", {}, "–");
  const picture = vector("svg", { role: "img", "aria-label": "success interval" });
  const place = (share) => `${(100 * share).toFixed(1)}%`;
  picture.append(vector("line", { class: "frame", x1: "0", x2: "100%", y1: 7, y2: 7 }));
  if (candidate[CANDIDATE.low] !== null && candidate[CANDIDATE.high] !== null) {
    picture.append(vector("line", { x1: place(candidate[CANDIDATE.low]), x2: place(candidate[CANDIDATE.high]), y1: 7, y2: 7 }));
  }
  picture.append(vector("circle", { cx: place(candidate[CANDIDATE.rate]), cy: 7, r: 3.5 }));
  const text = `${percent(candidate[CANDIDATE.rate])} [${plain(100 * candidate[CANDIDATE.low], 0)}, ${plain(100 * candidate[CANDIDATE.high], 0)}]`;
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
  const teachers = shownTeachers();
  const largest = (read) => Math.max(...node.candidates.map((candidate) => Math.abs(read(candidate) || 0)), 0);
  const ideal = (candidate) => candidate[CANDIDATE.g];
  const towards = teachers.map((teacher) => (candidate) => (armIndex(teacher) < 0 ? null : candidate[CANDIDATE.d][armIndex(teacher)]));
  const scales = [largest(ideal), ...towards.map(largest)];
  const suffix = (place) => (teachers.length > 1 ? ` ${"AB"[place]}` : "");
  const heads = [
    "token", "student p", ...teachers.map((_, place) => `teacher${suffix(place)} q`), "success, 95 %", "visits", "ideal direction",
    ...teachers.map((_, place) => `teacher${suffix(place)} direction`),
  ];
  const rows = node.candidates.map((candidate) => element("tr", { class: `${candidate[CANDIDATE.kept] ? "" : "dropped"} ${candidate[CANDIDATE.drawn] ? "drawn" : ""}` },
    element("td", { class: "token-cell" }, element("span", { class: "tok" }, ...tokenParts(candidate[CANDIDATE.token])), candidate[CANDIDATE.kept] ? "" : element("small", {}, "not kept")),
    element("td", {}, meter(candidate[CANDIDATE.p])),
    ...teachers.map((teacher) => element("td", {}, meter(DATA.tokens.teachers.includes(teacher) ? candidate[CANDIDATE.q][DATA.tokens.teachers.indexOf(teacher)] : null))),
    element("td", {}, rangeOf(candidate)),
    element("td", {}, String(candidate[CANDIDATE.visits] ?? "–")),
    element("td", {}, push(ideal(candidate), scales[0])),
    ...towards.map((read, place) => element("td", {}, push(read(candidate), scales[place + 1])))));
  return element("div", { class: "node-scroll", tabindex: "0", role: "region", "aria-label": "Candidates" }, element("table", { class: "candidates" },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows)));
}

function reasonInWords(code) {
  return code && Object.hasOwn(DATA.tokens.reasons, code) ? DATA.tokens.reasons[code] : "";
}

function sentence(node, teacher) {
  const verdict = verdictOf(node, teacher);
  if (node.state !== "measured") {
    const reason = reasonInWords(node.reason);
    return reason ? `${STATES[node.state]}: ${reason}` : STATES[node.state];
  }
  if (verdict === null) return "this teacher and objective were not scored here";
  if (verdict[VERDICT.cosine] === null) return reasonInWords(verdict[VERDICT.reason]) || "no cosine";
  const effect = verdict[VERDICT.cosine] > 0 ? "the teacher pulls towards success here" : "the teacher pulls away from success here";
  const kept = node.candidates.filter((candidate) => candidate[CANDIDATE.kept]).length;
  const two = kept === 2 ? " (two kept candidates: a cosine can only be +1 or −1)" : "";
  return (stateOf(node, teacher) === "uncertain" ? `${effect}, but ${STATES.uncertain}` : effect) + two;
}

/* Between which candidates the teacher moves most, with their success rates. It may want neither: then what it favours is the one it gives up less. */
function movement(node, teacher) {
  const arm = armIndex(teacher);
  const moved = node.candidates.filter((candidate) => candidate[CANDIDATE.kept] && arm >= 0 && typeof candidate[CANDIDATE.d][arm] === "number");
  if (moved.length < 2 || verdictOf(node, teacher)?.[VERDICT.cosine] === null) return "";
  const sorted = [...moved].sort((a, b) => b[CANDIDATE.d][arm] - a[CANDIDATE.d][arm]);
  const [up, down] = [sorted[0], sorted[sorted.length - 1]];
  const chance = (candidate) => `(student ${probability(candidate[CANDIDATE.p])}, teacher ${probability(candidate[CANDIDATE.q][DATA.tokens.teachers.indexOf(teacher)])})`;
  const token = (candidate) => element("span", { class: "tok" }, ...tokenParts(candidate[CANDIDATE.token]));
  const right = (candidate) => `right in ${percent(candidate[CANDIDATE.rate])} of ${candidate[CANDIDATE.visits]} visits`;
  return element("p", {},
    "Of these candidates it favours ", token(up), ` ${chance(up)}, after which the student is ${right(up)}, over `,
    token(down), ` ${chance(down)}, after which it is ${right(down)}.`);
}

function numbers(pairs) {
  return element("dl", { class: "numbers" }, ...pairs.map(([name, value, title]) =>
    element("div", title ? { title } : {}, element("dt", {}, name), element("dd", {}, value))));
}

function verdictNumbers(node, teacher) {
  const verdict = verdictOf(node, teacher);
  const read = (key, digits) => (verdict === null ? "–" : signed(verdict[key], digits));
  return numbers([
    ["cosine", read(VERDICT.cosine, 2), "+1: the teacher's direction is the ideal one, −1: its opposite"],
    ["signal", read(VERDICT.signal, 3), "success rate that a unit step in the teacher's direction gains, to first order"],
    ["advantage", read(VERDICT.advantage, 3), "success rate gained if the teacher chose this token and the student went on"],
    ["reverse KL, nats", plain(node.kl[DATA.tokens.teachers.indexOf(teacher)], 3), "how far the teacher's probabilities are from the student's"],
    ["on kept tokens", verdict === null ? "–" : percent(verdict[VERDICT.share]), "share of the teacher's full |d|² at this node that lies on kept candidates"],
  ]);
}

function drawNode() {
  const node = currentNode();
  const host = byId("node");
  if (!node) return host.replaceChildren();
  const teachers = shownTeachers();
  const verdicts = teachers.flatMap((teacher, place) => [
    element("h4", {}, teachers.length > 1 ? `${"AB"[place]}: ` : "", element("bdi", {}, teacher), `, ${view.objective}`),
    element("p", { class: "sentence" }, `${sentence(node, teacher)}.`), movement(node, teacher), verdictNumbers(node, teacher),
  ]);
  host.replaceChildren(
    element("h3", {}, `Token ${view.node}: `, element("span", { class: "tok" }, ...tokenParts(node.token))),
    element("p", { class: "standing" }, standing(node)),
    ...verdicts,
    element("p", { class: "hint" }, `Success gap ${plain(node.numbers[NODE.gap], 2)}, student's entropy ${plain(node.numbers[NODE.entropy], 2)} nats, ${percent(node.numbers[NODE.mass])} of its probability on kept candidates.`));
  if (adviceText(node)) host.append(element("p", { class: "hint advice" }, adviceText(node)));
  if (node.candidates.length) host.append(candidateTable(node));
  else host.append(element("p", { class: "absent" }, "No candidate is stored here."));
  if (node.hidden) host.append(element("p", { class: "hint" }, `${node.hidden} more candidates are in candidates.parquet.`));
  host.append(element("p", { class: "hint" }, "Framed: the token that was drawn. Bars: right = up, scaled to the largest of their column."), rolloutsOf(node));
  return undefined;
}

function adviceText(node) {
  const { advice } = DATA.tokens;
  if (!advice.arm || !node.advice) return "";
  const [code, signal, error] = node.advice;
  const name = advice.names[code];
  if (signal === null) return `Advice for ${advice.arm}: ${name}; no rule was fitted.`;
  return `Advice for ${advice.arm}: ${name}. A rule fitted on other questions expects the signal ${signed(signal, 4)} (standard error ${plain(error, 4)}) of a token like this; it does not see what was measured here.`;
}

/* Rollouts through each candidate: what stands before the node is left out. */
function rolloutsOf(node) {
  const path = currentPath();
  const texts = currentQuestion().texts[path.continuation] || [];
  const shown = node.candidates.filter((candidate) => candidate[CANDIDATE.examples].length);
  if (!shown.length) return element("span", {});
  const before = path.before[view.node] || 0;
  const entries = shown.flatMap((candidate) => candidate[CANDIDATE.examples].map((place) => {
    const entry = texts[place];
    const outcome = entry[TEXT.correct] === null ? "ungraded" : entry[TEXT.correct] ? "right" : "wrong";
    return element("div", { class: `rollout ${outcome}` },
      element("span", { class: "outcome" }, `${outcome}${entry[TEXT.truncated] ? ", cut off" : ""}, ${entry[TEXT.kind]}`),
      element("pre", {}, entry[TEXT.text].slice(before) || "(ends here)"));
  }));
  return element("details", { class: "rollouts" }, element("summary", {}, `${entries.length} of the rollouts from here`), ...entries);
}
