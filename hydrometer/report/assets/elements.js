/* Elements and numbers. Text only ever reaches the page as text nodes. */
const byId = (id) => document.getElementById(id);
const distinct = (values) => [...new Set(values)];

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function vector(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function signed(value, digits) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : (value > 0 ? "+" : "−") + text.replace("-", "");
}

const plain = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)} %`);

function probability(value) {
  if (value === null || value === undefined) return "–";
  return value >= 0.0995 ? value.toFixed(2) : value >= 0.00095 ? value.toFixed(3) : value === 0 ? "0" : "<0.001";
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/* A number in its unit: the same rules as numbers.py. */
function inUnit(value, unit) {
  switch (unit) {
    case "share": return percent(value);
    case "percent_points": return value === null ? "–" : `${signed(100 * value, 0)} points`;
    case "rate": return signed(value, 3);
    case "cosine": return signed(value, 2);
    default: return number(value);
  }
}

function shorten(text, length) {
  const characters = Array.from(text.replace(/\s+/g, " "));
  return characters.length > length ? characters.slice(0, length).join("") + "…" : characters.join("");
}

/* Both ends of a text: instructions often begin it, the question proper often ends it. */
function shortenMiddle(text, length) {
  const characters = Array.from(text.replace(/\s+/g, " ").trim());
  if (characters.length <= length) return characters.join("");
  const end = Math.floor(length / 2);
  return `${characters.slice(0, length - end).join("")} … ${characters.slice(-end).join("")}`;
}

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => {
    const option = element("option", { value }, text);
    option.selected = String(value) === String(chosen);
    return option;
  }));
}
