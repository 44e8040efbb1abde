/* Inflates the page's data, draws it, and listens to keys. */
let DATA = null;

async function inflate(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text());
}

const KEYS = {
  "?": () => byId("keys")?.showModal(),
  "/": () => byId("question-filter")?.focus(),
  h: () => jump(-1),
  g: () => jump(1),
  u: () => jump(0),
  n: () => step("question", 1),
  p: () => step("question", -1),
  r: () => step("path", 1),
  t: () => step("teacher", 1),
  T: () => step("teacher", -1),
  c: () => step("other", 1),
  o: () => step("objective", 1),
  m: () => step("metric", 1),
  ArrowRight: () => selectNode(view.node + 1, true),
  ArrowLeft: () => selectNode(view.node - 1, true),
  Home: () => selectNode(0, true),
  End: () => selectNode(Infinity, true),
};
const EVERYWHERE = ["?", "/"];
const IN_TEXT = ["ArrowRight", "ArrowLeft", "Home", "End"];

function onKey(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, key)) return;
  if (target.matches("input, select, textarea, dialog, dialog *")) return;
  if (IN_TEXT.includes(key) && !target.closest("#token-panes")) return;
  if (!EVERYWHERE.includes(key) && (byId("token-view") === null || byId("token-view").hidden)) return;
  event.preventDefault();
  KEYS[key]();
  if (["h", "g", "u", "n", "p", "r"].includes(key)) byId("token-view").scrollIntoView({ block: "start" });
}

/* Light, dark, or whatever the reader's system says. */
function startTheme() {
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const now = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.style.colorScheme = now === "dark" ? "light" : "dark";
  });
}

async function start() {
  DATA = await inflate(byId("data").textContent);
  startTheme();
  placeFigures();
  startQuestions();
  startTokens();
  byId("keys-open")?.addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", onKey);
  document.documentElement.dataset.ready = Math.round(performance.now()); /* ms since the page was asked for */
}

start();
