// Line charts with hover, keyboard and legend. A series is { name, points: [[x, y], ...] }, perhaps with `note`, a text for
// each point, and `style`, its classes.

// More lines than these are drawn thin; the legend brings one forward.
const MOST_PLAIN_SERIES = 10;
const FRAME = { width: 560, height: 300, left: 58, right: 14, top: 10, bottom: 40 };

function niceTicks(low, high, aim = 5) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / aim;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999);
  const ticks = [];
  for (let n = Math.floor(low / step + 1e-9); n * step <= high + step * 0.999; n += 1) {
    ticks.push(Number((n * step).toPrecision(12)));
  }
  return ticks;
}

// From 0 where the values come near it, else around them.
function domainOf(values) {
  const low = Math.min(...values), high = Math.max(...values);
  return low >= 0 && low < 0.5 * high ? [0, high] : [low, high];
}

function lineChart({ series, xLabel, yLabel, xDomain, yDomain, xFormat = short, yFormat = short, label }) {
  const points = series.flatMap((one) => one.points);
  const xs = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
  const [xLow, xHigh] = xDomain ?? [xs[0], xs.at(-1) > xs[0] ? xs.at(-1) : xs[0] + 1];
  const yTicks = yDomain ? niceTicks(...yDomain) : niceTicks(...domainOf(points.map(([, y]) => y)));
  const [yLow, yHigh] = yDomain ?? [yTicks[0], yTicks.at(-1)];
  const { width, height, left, right, top, bottom } = FRAME;
  const toX = (x) => left + ((x - xLow) / (xHigh - xLow)) * (width - left - right);
  const toY = (y) => height - bottom - ((y - yLow) / (yHigh - yLow || 1)) * (height - top - bottom);
  const xTicks = niceTicks(xLow, xHigh, 6).filter((x) => x >= xLow && x <= xHigh && (xDomain || Number.isInteger(x)));

  const groups = series.map((one, index) => drawSeries(one, index, toX, toY));
  const guide = svg("line", { class: "guide", y1: top, y2: height - bottom, visibility: "hidden" });
  const tip = h("div", { class: "tip", hidden: true, "aria-live": "polite" });
  const name = `${label}. Arrow keys read values.`;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": name },
    yTicks.map((y) => [
      svg("line", { class: "grid", x1: left, x2: width - right, y1: toY(y), y2: toY(y) }),
      svg("text", { x: left - 7, y: toY(y) + 4, "text-anchor": "end" }, yFormat(y))]),
    xTicks.map((x) => svg("text", { x: toX(x), y: height - bottom + 17, "text-anchor": "middle" }, xFormat(x))),
    svg("line", { class: "axis", x1: left, x2: width - right, y1: toY(yLow), y2: toY(yLow) }),
    svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel),
    svg("text", { x: -(height - bottom + top) / 2, y: 11, transform: "rotate(-90)", "text-anchor": "middle" }, yLabel),
    svg("g", { class: series.length > MOST_PLAIN_SERIES && "is-crowded" }, groups), guide);

  let at = -1;
  const show = (index) => {
    at = Math.max(0, Math.min(xs.length - 1, index));
    const x = xs[at];
    guide.setAttribute("x1", toX(x));
    guide.setAttribute("x2", toX(x));
    guide.setAttribute("visibility", "visible");
    tip.replaceChildren(h("b", null, `${xLabel} ${xFormat(x)}`), ...tipRows(series, groups, x, yFormat));
    tip.hidden = false;
    const share = toX(x) / width;
    tip.style.left = share > 0.5 ? "auto" : `calc(${100 * share}% + 12px)`;
    tip.style.right = share > 0.5 ? `calc(${100 * (1 - share)}% + 12px)` : "auto";
  };
  const hide = () => { guide.setAttribute("visibility", "hidden"); tip.hidden = true; };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = xLow + (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (xHigh - xLow);
    show(xs.reduce((best, value, index) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? index : best), 0));
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { show(at + step); event.preventDefault(); }
  });
  return h("div", { class: "chart" }, series.length > 1 && legend(series, groups), h("div", { class: "chart" }, drawing, tip));
}

const styleOf = ({ style }, index) => style ?? `k${index % 8} d${Math.floor(index / 8) % 3}`;

function drawSeries(one, index, toX, toY) {
  const { points } = one;
  const path = points.map(([x, y], n) => `${n ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  const dots = points.length <= 30 && points.map(([x, y]) => svg("circle", { cx: toX(x), cy: toY(y), r: 3 }));
  return svg("g", { class: styleOf(one, index) }, svg("path", { class: "series", d: path }), dots);
}

function tipRows(series, groups, x, yFormat) {
  const rows = series.flatMap((one, index) => {
    const place = one.points.findIndex(([value]) => value === x);
    if (place < 0 || groups[index].hasAttribute("hidden")) return [];
    const y = one.points[place][1];
    return [{ y, told: [one.name, yFormat(y), one.note && `· ${one.note[place]}`].filter(Boolean).join(" ") }];
  });
  const shown = rows.sort((a, b) => b.y - a.y).slice(0, 8).map(({ told }) => h("div", null, told));
  return rows.length > 8 ? [...shown, h("div", null, `and ${rows.length - 8} more`)] : shown;
}

const swatch = (one, index) => svg("svg", { viewBox: "0 0 20 8", "aria-hidden": "true" },
  svg("line", { class: styleOf(one, index), x1: 0, x2: 20, y1: 4, y2: 4, "stroke-width": 3 }));

function legend(series, groups) {
  const highlight = (chosen) => groups.forEach((group, index) => {
    group.classList.toggle("faded", chosen >= 0 && index !== chosen);
    group.classList.toggle("bold", index === chosen);
  });
  return h("div", { class: "legend", role: "group", "aria-label": "Lines shown" }, series.map((one, index) => {
    const toggle = (event) => {
      const isShown = groups[index].toggleAttribute("hidden");
      groups[index].setAttribute("visibility", isShown ? "hidden" : "visible");
      event.currentTarget.setAttribute("aria-pressed", String(!isShown));
    };
    return h("button", {
      type: "button", "aria-pressed": "true", onclick: toggle,
      onpointerenter: () => highlight(index), onpointerleave: () => highlight(-1),
      onfocus: () => highlight(index), onblur: () => highlight(-1),
    }, swatch(one, index), one.name);
  }));
}

// One row a combination: where the time of one image goes, on average, as a stacked bar.
const PHASES = ["decode", "preprocess", "infer", "postprocess"];
const PHASE_NAMES = { infer: "model" };

function timeChart(rows, isBest) {
  const share = (row, phase) => row[`${phase}_ms`] / row.batch_size;
  const total = (row) => sum(PHASES.map((phase) => share(row, phase)));
  const longest = Math.max(...rows.map(total));
  const part = (row) => (phase, index) =>
    h("i", { class: `p${index}`, style: { width: `${(100 * share(row, phase)) / longest}%` } });
  const key = (phase, index) => h("span", { class: "key" }, h("i", { class: `swatch p${index}` }), PHASE_NAMES[phase] ?? phase);
  return [
    small(PHASES.map(key)),
    h("div", { class: "times", role: "img", "aria-label": "Time of one image in each combination; the table has the values" },
      rows.map((row) => [
        h("span", { class: isBest(row) && "is-best" }, `${row.format} · batch ${row.batch_size} · ${plural(row.threads, "thread")}`),
        h("span", { class: "track" }, PHASES.map(part(row))),
        h("span", { class: `number${isBest(row) ? " is-best" : ""}` }, `${milliseconds(total(row))} ms`),
      ])),
  ];
}
