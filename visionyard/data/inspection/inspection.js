// The inspection: sections of counts, places, looks, pictures and problems.

const content = JSON.parse(document.getElementById("content").textContent);
const { inspection, colours } = content;
const SPLITS = ["train", "val", "test", "none"];
const splits = SPLITS.filter((split) => split in inspection.items);
const MOST_PLAIN_ROWS = 30;
const isDetection = inspection.task === "detection";
const isSemantic = inspection.task === "semantic_segmentation";
const splitName = (split) => (split === "none" ? "no split" : split);
const all = (counts) => sum(Object.values(counts));
const go = (id) => document.getElementById(id).scrollIntoView();
const classSwatch = (index) => h("i", { class: "swatch", style: { background: colours[index] } });
const percentile = ({ edges, counts }, share) => {
  const total = sum(counts);
  let before = 0;
  for (let n = 0; n < counts.length; n += 1) {
    if (counts[n] && before + counts[n] >= share * total) {
      return edges[n] + ((edges[n + 1] - edges[n]) * (share * total - before)) / counts[n];
    }
    before += counts[n];
  }
  return edges.at(-1);
};

// A histogram as columns, from the first bin that holds something to the last one.
function columnChart({ histogram: { edges, counts }, xLabel, label, edgeFormat = short, isWhole = false, step = 0 }) {
  const first = counts.findIndex(Boolean);
  if (first < 0) return h("p", { class: "muted" }, "Nothing to count.");
  const last = counts.findLastIndex(Boolean);
  const shown = counts.slice(first, last + 1);
  const most = Math.max(...shown);
  const { width, height, left, right, top, bottom } = { ...FRAME, height: 220 };
  const each = (width - left - right) / shown.length;
  const toY = (value) => height - bottom - (value / most) * (height - top - bottom);
  const every = step || Math.ceil(shown.length / 9);
  const told = (n) => isWhole ? edgeFormat(edges[first + n]) : `${edgeFormat(edges[first + n])} to ${edgeFormat(edges[first + n + 1])}`;
  const ticks = niceTicks(0, most, 4).filter((tick) => tick <= most && Number.isInteger(tick));
  return h("div", { class: "chart" }, svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    ticks.map((tick) => [
      svg("line", { class: "grid", x1: left, x2: width - right, y1: toY(tick), y2: toY(tick) }),
      svg("text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }, count(tick))]),
    shown.map((value, n) => svg("rect", {
      class: "column", x: left + n * each + Math.min(1, each / 8), width: Math.max(1, each - Math.min(2, each / 4)),
      y: toY(value), height: height - bottom - toY(value),
    }, svg("title", null, `${told(n)}: ${count(value)}`))),
    svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    shown.map((_, n) => n % every === 0 && svg("text", {
      x: left + (n + (isWhole ? 0.5 : 0)) * each, y: height - bottom + 17, "text-anchor": "middle",
    }, edgeFormat(edges[first + n]))),
    svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel)));
}

function summarySection() {
  const boxes = isDetection && ` · ${plural(inspection.box_count, "box", "boxes")}`;
  const tile = (label, value, note) => h("div", { class: "tile" }, h("div", { class: "label" }, label),
    h("div", { class: "value" }, value), note && h("div", { class: "note" }, note));
  const labelled = inspection.item_count - inspection.unlabelled_count;
  return [
    h("p", { class: "eyebrow" }, words(inspection.task)),
    h("h1", null, content.title.replace(/: inspection$/, "")),
    h("p", { class: "muted" }, inspection.label, boxes),
    h("div", { class: "tiles" },
      tile("Images", count(inspection.item_count), inspection.unlabelled_count
        ? `${count(inspection.unlabelled_count)} without label` : "all labelled"),
      tile("Classes", count(inspection.classes.length)),
      isDetection && tile("Boxes", count(inspection.box_count),
        labelled > 0 && `${short(inspection.box_count / labelled)} an image; ${plural(inspection.background_count, "image")} show none`),
      tile("Groups", count(all(inspection.groups)), "clips, scenes or single images"),
      tile("Problems", count(sum(content.problems.map((one) => one.count))), "found on the way here")),
  ];
}

function classesSection() {
  const rows = inspection.classes.map((one, index) => ({ ...one, index }));
  const unit = isDetection ? "boxes" : isSemantic ? "pixels" : "items";
  const largest = Math.max(1, ...rows.map((row) => all(row[unit])));
  const whole = Math.max(1, sum(rows.map((row) => all(row[unit]))));
  const colour = (split) => `s${SPLITS.indexOf(split) % 3}`;
  const mix = (row) => h("span", { class: "bar", "aria-hidden": "true" }, splits.map((split) =>
    h("i", { class: colour(split), style: { width: `${(100 * row[unit][split]) / largest}%` } })));
  const columns = [
    text("Class", (row) => [classSwatch(row.index), row.name, mix(row)]),
    ...splits.map((split) => number([h("i", { class: `swatch ${colour(split)}` }), splitName(split)], (row) => count(row[unit][split]))),
    splits.length > 1 && number("All", (row) => count(all(row[unit]))),
    number("Share", (row) => percent(all(row[unit]) / whole, 1)),
    unit !== "items" && number("Images", (row) => count(all(row.items))),
    isDetection && number("Median side", (row) => (row.median_side_px ? `${short(row.median_side_px)} px` : "–")),
    isDetection && rows.some((row) => row.mask_count) && number("Masks", (row) => count(row.mask_count)),
  ].filter(Boolean);
  const splitColumns = [text("Split", splitName), number("Images", (split) => count(inspection.items[split])),
    number("Share", (split) => percent(inspection.items[split] / inspection.item_count, 1)),
    number("Groups", (split) => count(inspection.groups[split]))];
  return h("div", { class: "columns is-uneven" },
    panel(`${unit[0].toUpperCase()}${unit.slice(1)} by class and split`, rows.length > MOST_PLAIN_ROWS ? h("div", { class: "tall" }, table(columns, rows)) : table(columns, rows)),
    panel("Splits", table(splitColumns, splits)));
}

function heatmap() {
  const grid = inspection.coverage;
  const most = Math.max(...grid.flat(), 1e-9);
  const cell = (share, x, y) => svg("rect", { class: "cell", x, y, width: 1.02, height: 1.02, "fill-opacity": (share / most).toFixed(3) },
    svg("title", null, `${percent(share, 1)} of the boxes`));
  return [
    h("div", { class: "heatmap" }, svg("svg", { viewBox: `0 0 ${grid.length} ${grid.length}`, role: "img", preserveAspectRatio: "none",
      "aria-label": `Where boxes lie: at most ${percent(most)} of them cover one place` },
      grid.map((row, y) => row.map((share, x) => cell(share, x, y))))),
    small(`Darkest: ${percent(most, 1)} of the boxes cover this place of their image.`),
  ];
}

function boxesSection() {
  const { box_sides_px: sides, box_share: share, boxes_per_image: each } = inspection;
  return [
    lead(`Half of the boxes have a side (square root of the area) below ${short(percentile(sides, 0.5))} px, one in ten below `,
      `${short(percentile(sides, 0.1))} px.`),
    h("div", { class: "columns" },
      panel("Where boxes lie in their image", heatmap()),
      panel("Side of the boxes", columnChart({ histogram: sides, xLabel: "pixels", label: "Sides of the boxes", edgeFormat: (x) => short(Math.round(x)) })),
      panel("Area of the boxes, of their image", columnChart({ histogram: share, xLabel: "share of the image", label: "Shares of the image", edgeFormat: (x) => (x ? percent(x, x < 0.01 ? 2 : x < 0.1 ? 1 : 0) : "0") })),
      panel("Boxes in an image", columnChart({ histogram: each, xLabel: "boxes", label: "Boxes in an image", isWhole: true }))),
  ];
}

function imagesSection() {
  const { looks, image_sizes: sizes } = inspection;
  const columns = [text("Width x height", ([width, height]) => `${width} x ${height}`), number("Images", ([, , size]) => count(size)),
    number("Share", ([, , size]) => percent(size / inspection.item_count, 1))];
  const strip = (name, title, measure) => content.extremes[name].length > 0 && panel(title, h("ul", { class: "cards" },
    content.extremes[name].map((one) => h("li", { class: "card is-static" },
      h("div", { class: "picture" }, h("img", { src: one.picture, alt: "", decoding: "async" })),
      h("span", { class: "caption" }, h("span", null, `${measure} ${short(one.value)}`),
        h("span", { class: "name", title: one.source }, baseName(one.source)))))));
  return [
    lead(`Brightness and sharpness of ${plural(looks.measured_count, "image")}, spread evenly over all`,
      looks.unreadable_count > 0 && `; ${count(looks.unreadable_count)} of them cannot be decoded`, "."),
    h("div", { class: "columns" },
      panel("Sizes", table(columns, sizes), inspection.image_size_count > sizes.length
        && small(`and ${count(inspection.image_size_count - sizes.length)} further sizes`)),
      panel("Longer side", columnChart({ histogram: inspection.image_sides_px, xLabel: "pixels", label: "Longer sides of the images", edgeFormat: (x) => short(Math.round(x)) })),
      panel("Brightness", columnChart({ histogram: looks.brightness, xLabel: "mean grey level, 0 black to 255 white", label: "Brightness" })),
      panel("Sharpness", columnChart({ histogram: looks.sharpness, xLabel: "log10 of the variance of edges; low: blurred", label: "Sharpness" }))),
    strip("darkest", "The darkest", "grey level"), strip("brightest", "The brightest", "grey level"),
    strip("blurriest", "The least sharp", "sharpness"),
  ];
}

function examplesSection() {
  const when = ({ timestamp_s: time }) => (isKnown(time) ? ` · ${time.toFixed(1)} s` : "");
  const label = (one) => {
    if (!one.is_labelled) return "no label";
    return one.class_name ?? (isKnown(one.box_count) ? plural(one.box_count, "box", "boxes") : "mask");
  };
  const told = (one) => [label(one), one.split].filter(Boolean).join(" · ");
  return h("ul", { class: "cards is-large" }, content.examples.map((one) => h("li", { class: "card is-static" },
    h("div", { class: "picture", style: { "aspect-ratio": `${one.width} / ${one.height}` } }, h("img", { src: one.picture, alt: "", decoding: "async" })),
    h("span", { class: "caption" }, h("span", null, told(one)),
      h("span", { class: "name", title: one.source }, baseName(one.source) + when(one))))));
}

function problemsSection() {
  if (!content.problems.length) return panel(null, h("p", { class: "muted" }, "None."));
  const place = ({ file, item }) => [file, item].filter(Boolean).join(" · ") || "dataset";
  return panel(null, content.problems.map(({ code, count: size, listed }) => fold(words(code), size, h("ul", null,
    listed.map((one) => h("li", null, h("code", null, place(one)), " ", one.message)),
    size > listed.length && h("li", { class: "muted" }, `and ${count(size - listed.length)} more`)))));
}

const SECTIONS = [
  { id: "classes", name: "Classes", fill: classesSection },
  isDetection && inspection.box_count > 0 && { id: "boxes", name: "Boxes", fill: boxesSection },
  { id: "images", name: "Images", fill: imagesSection },
  { id: "examples", name: "Examples", title: "Images with their labels", fill: examplesSection },
  { id: "problems", name: "Problems", title: "Problems found", fill: problemsSection },
].filter(Boolean);

build(document.getElementById("top"), null, summarySection());
build(document.querySelector("main"), null, [
  SECTIONS.map(({ id, name, title, fill }) =>
    h("section", { id, "aria-labelledby": `${id}-heading` }, h("h2", { id: `${id}-heading` }, title ?? name), fill())),
  h("footer", null, "Made by Visionyard. This page needs no network and keeps nothing."),
]);
build(document.querySelector("nav"), null, [h("div", null, SECTIONS.map(({ id, name }) =>
  h("a", { href: `#${id}`, onclick: (event) => { event.preventDefault(); go(id); } }, name)))]);
