// Elements and texts. Content reaches the page only as text nodes and attributes, never as markup.

function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, text]) => element.style.setProperty(key, text));
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0 || child === ""));
  return element;
}
const h = (tag, properties, ...children) => build(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

const sum = (values) => values.reduce((total, value) => total + value, 0);
const hundredths = Array.from({ length: 101 }, (_, index) => index / 100);
const baseName = (path) => path.split("/").at(-1);
const isKnown = (value) => value !== null && value !== undefined;

const count = (value) => value.toLocaleString("en-GB");
const plural = (value, word, words = `${word}s`) => `${count(value)} ${value === 1 ? word : words}`;
const percent = (value, digits = 0) => (isKnown(value) ? `${(100 * value).toFixed(digits)}\u00a0%` : "–");
const score = (value) => (isKnown(value) ? value.toFixed(3) : "–");
const milliseconds = (value) => (value < 0.1 ? value.toPrecision(2) : value.toFixed(value < 100 ? 1 : 0));
const bytes = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(1)} MB`);
const words = (name) => name.replaceAll("_", " ");
const short = (value) => {
  if (!isKnown(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
};

// In the order people read them.
const METRIC_NAMES = {
  map_50: "mAP 50", map_50_95: "mAP 50-95", ap_50: "AP 50", ap_50_95: "AP 50-95",
  precision: "Precision", recall: "Recall", f1: "F1", top_1: "Top-1 accuracy", top_5: "Top-5 accuracy",
  macro_f1: "Macro F1", macro_precision: "Macro precision", macro_recall: "Macro recall",
  log_loss: "Log loss", ece: "Calibration error", average_precision: "Average precision",
};
const rank = (name) => (name in METRIC_NAMES ? Object.keys(METRIC_NAMES).indexOf(name) : Infinity);
const inOrder = (metrics) => Object.entries(metrics).sort(([a], [b]) => rank(a) - rank(b));
const metricName = (name) => METRIC_NAMES[name] ?? words(name).replace(/^./, (letter) => letter.toUpperCase());

// A table's columns; the first one holds the row headings.
const text = (heading, value) => ({ heading, value, kind: null });
const number = (heading, value) => ({ heading, value, kind: "number" });

function table(columns, rows) {
  const headings = columns.map(({ heading, kind }) => h("th", { class: kind, scope: "col" }, heading));
  const cells = (row) => columns.map(({ value, kind }, index) =>
    h(index ? "td" : "th", { class: kind, scope: index ? null : "row" }, value(row)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table" },
    h("table", null, h("thead", null, h("tr", null, headings)),
      h("tbody", null, rows.map((row) => h("tr", null, cells(row))))));
}

const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
const panel = (title, ...children) => h("div", { class: "panel" }, title && h("h3", null, title), children);
const lead = (...children) => h("p", { class: "lead" }, children);
const small = (...children) => h("p", { class: "small muted" }, children);
const verdict = (isGood, ...children) => h("span", { class: isGood ? "good" : "bad" }, children);
const fold = (title, size, ...children) => h("details", null,
  h("summary", null, title, isKnown(size) && h("span", { class: "count" }, count(size))), children);
const bar = (share) =>
  h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: { width: `${100 * (share ?? 0)}%` } }));
