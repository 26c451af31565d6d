// Sections on what the model can do: summary, metrics, confusion matrix, curves, single images.

function summarySection({ title, task, classes, metrics, data, parity, benchmark, promotion, training }) {
  const { images, right } = metrics.counts;
  const what = [
    metricName(task), training.facts.model_name, plural(classes.length, "class", "classes"),
    `${plural(images, `test ${itemWord()}`)} judged`,
  ];
  const main = metrics.metric;
  return [
    h("p", { class: "eyebrow" }, "Visionyard report"), h("h1", null, title),
    h("p", { class: "muted" }, what.filter(Boolean).join(" · ")),
    isLeaky(data) && alarm(data),
    h("div", { class: "tiles" },
      tile(null, metricName(main.name), score(main.value), `on the ${metrics.split} split`),
      tile(null, itemWord() === "row" ? "Right rows" : "Flawless images", percent(right / images), `${count(right)} of ${count(images)}`),
      leakTile(data), parityTile(parity), speedTile(benchmark), promotionTile(promotion)),
  ];
}

// `isGood` is null where there is nothing to judge; a value in words is set smaller than a number.
function tile(isGood, label, value, note) {
  const state = { true: "good", false: "bad", null: "open" }[isGood];
  const mark = { good: "✓", bad: "✗", open: "" }[state];
  return h("div", { class: `tile is-${state}` },
    h("div", { class: "label" }, label, h("span", { class: `mark ${state}`, "aria-hidden": "true" }, mark)),
    h("div", { class: `value${/\d/.test(value) ? "" : " word"}` }, value), h("div", { class: "note" }, note));
}

const isLeaky = ({ leak, groups }) => Boolean(leak?.is_leaky) || groups.straddling_count > 0;
const alikeCount = (leak) =>
  (leak.is_near_duplicate_search_complete ? "" : "at least ") + plural(leak.near_duplicate_pairs, "pair");

function leakTile(data) {
  if (isLeaky(data)) return tile(false, "Split", "leaks", "test results are too good to be true");
  if (!data.leak) return tile(null, "Split", "not audited", "the dataset version has no leak certificate");
  const alike = data.leak.near_duplicate_pairs && `nothing shared; ${alikeCount(data.leak)} show the same, see Data`;
  return tile(true, "Split", "leak-safe", alike || (itemWord() === "row" ? "no group, and no like rows, in two splits" : "no clip, scene or image in two splits"));
}

function parityTile(parity) {
  if (!parity) return tile(null, "Parity of exports", "not yet", "the export has not run");
  const note = `${Object.keys(parity.formats).join(", ")} against PyTorch`;
  return tile(parity.is_passed, "Parity of exports", parity.is_passed ? "passed" : "failed", note);
}

function speedTile(benchmark) {
  if (!benchmark) return tile(null, "Fastest format", "not yet", "the benchmark has not run");
  const { format, p50_ms: median, batch_size: batch, threads } = benchmark.fastest;
  const note = `${format}, batch ${batch}, ${plural(threads, "thread")}: median`;
  return tile(true, "Fastest format", `${milliseconds(median)} ms`, note);
}

function promotionTile(promotion) {
  if (!promotion) return tile(null, "Promotion", "not yet", "the new model has not been judged");
  const { is_pending: isPending, verdict: said, metric, champion } = promotion;
  const note = champion ? `${metricName(metric.name)} ${score(metric.challenger)}, the champion's ${score(metric.champion)}, on ${itemWord()}s new to both`
    : "there was no champion to compare with";
  if (isPending) return tile(null, "Promotion", "waits", "for a person's approval");
  return said === "promote" ? tile(true, "Promotion", "promoted", note) : tile(false, "Promotion", "rejected", note);
}

function alarm({ leak, groups }) {
  const shared = Math.max(leak?.group_overlap ?? 0, groups.straddling_count);
  const found = [
    shared && `${plural(shared, "group")}${itemWord() === "row" ? "" : " (clip or scene)"} in two splits`,
    leak?.identical_images && `${plural(leak.identical_images, "pair")} of identical images in two splits`,
    leak?.identical_rows && `${plural(leak.identical_rows, "set")} of rows with the same features in two splits`,
    leak?.is_over_budget && `${count(leak.near_duplicate_items)} of ${plural(leak.held_out_items, "image")} of val and ` +
      `test with a near-duplicate in another split, more than the budget of ${percent(leak.leak_budget, 1)}`,
  ].filter(Boolean).join(", and ");
  return h("div", { class: "alarm", role: "alert" },
    h("strong", null, "The split leaks: do not trust the test results below"),
    h("p", null, `Found: ${found}. The model was tested on ${itemWord() === "row" ? "rows" : "pictures"} it has all but seen, and trained only because `,
      "data.allow_leak is true. Split again by group (data.split_mode: group) and train again; the pairs are under Data."));
}

function toldDetection({ thresholds, overall }) {
  const start = `At confidence ${thresholds.confidence} the model finds`;
  return overall.recall === 0 ? `${start} none of the objects.`
    : `${start} ${percent(overall.recall)} of the objects, and ${percent(overall.precision)} of what it finds is right ` +
      `(IoU ${thresholds.iou}).`;
}

const toldClassification = ({ overall }) => `${percent(overall.top_1, 1)} of the ${itemWord()}s are given their true class; ` +
  `averaged over classes F1 is ${score(overall.macro_f1)}.`;

function metricsSection({ task, metrics }) {
  const { overall, per_class: rows } = metrics;
  const isDetection = task === "detection";
  const [main, ...others] = isDetection
    ? ["ap_50", "ap_50_95", "precision", "recall", "f1"] : ["f1", "precision", "recall", "average_precision"];
  const columns = [
    text("Class", (row) => row.class_name),
    number(metricName(main), (row) => [score(row[main]), bar(row[main])]),
    ...others.map((name) => number(metricName(name), (row) => score(row[name]))),
    number("True", (row) => count(row.truth_count)), number("Predicted", (row) => count(row.prediction_count)),
  ];
  const hasUndefined = rows.some((row) => Object.values(row).includes(null));
  return [
    lead(isDetection ? toldDetection(metrics) : toldClassification(metrics)),
    h("div", { class: "tiles is-small" },
      inOrder(overall).map(([name, value]) => tile(null, metricName(name), score(value), ""))),
    panel("By class", table(columns, rows),
      hasUndefined && small("– : not defined, since the class has no true or no predicted example.")),
  ];
}

function confusionSection({ task, metrics }, chooser) {
  const { labels, counts } = metrics.confusion_matrix;
  // The last label of a detector is the background: a box that is not there, or was not found.
  const nothing = task === "detection" ? labels.length - 1 : -1;
  const told = (truth, said) => {
    if (said === nothing) return `${labels[truth]} missed`;
    return truth === nothing ? `${labels[said]} seen where there is none` : `${labels[truth]} taken for ${labels[said]}`;
  };
  const cell = (truth, said) => {
    const value = counts[truth][said];
    if (truth === nothing && said === nothing) return h("td", null, h("button", { type: "button", disabled: true }, "–"));
    return h("td", null, matrixCell({ value, share: value / (sum(counts[truth]) || 1), truth, said, labels, chooser }));
  };
  const mistakes = counts.flatMap((row, truth) => row.map((value, said) => ({ truth, said, value })))
    .filter(({ truth, said, value }) => value && truth !== said).sort((a, b) => b.value - a.value).slice(0, 5);
  const matrix = h("table", { class: `matrix${labels.length > 6 ? " is-large" : ""}` },
    h("thead", null, h("tr", null, h("td", { class: "corner" }, "truth ↓ said →"),
      labels.map((name) => h("th", { scope: "col" }, h("span", null, name))))),
    h("tbody", null, labels.map((name, truth) =>
      h("tr", null, h("th", { scope: "row" }, name), labels.map((_, said) => cell(truth, said))))));
  return [
    lead("Rows are the truth, columns what the model said; the percentage is of the row. Choose a cell to see its ",
      `${itemWord()}s.`),
    h("div", { class: "columns is-uneven" }, panel(null, h("div", { class: "scroll" }, matrix)),
      mistakes.length > 0 && panel("Most frequent mistakes", h("ol", { class: "mistakes" },
        mistakes.map(({ truth, said, value }) => h("li", null,
          h("button", { type: "button", class: "link", onclick: () => chooser.choose(truth, said) }, told(truth, said)),
          ` — ${plural(value, "time")}`))))),
  ];
}

function matrixCell({ value, share, truth, said, labels, chooser }) {
  const colour = `rgb(var(${truth === said ? "--good-tint" : "--bad-tint"}) / ${(0.08 + 0.5 * share).toFixed(3)})`;
  const button = h("button", {
    type: "button", class: value ? null : "is-zero", "data-cell": `${truth}-${said}`,
    style: value ? { background: colour } : null, onclick: () => chooser.choose(truth, said),
    title: `truth ${labels[truth]}, predicted ${labels[said]}: ${count(value)} (${percent(share, 1)} of the row)`,
  }, count(value), labels.length <= 10 && h("small", null, percent(share)));
  chooser.listen((state) => button.setAttribute("aria-pressed", String(state.cell === `${truth}-${said}`)));
  return button;
}

function curvesSection({ task, metrics }) {
  const isDetection = task === "detection";
  const known = metrics.per_class.filter((one) => one.pr_precision);
  const series = known.map((one) => ({
    name: `${one.class_name} (${score(one.ap_50 ?? one.average_precision)})`,
    points: hundredths.map((recall, index) => [recall, one.pr_precision[index]]),
    note: one.pr_confidence.map((value) => `confidence ${value.toFixed(2)}`),
  }));
  const chart = lineChart({ ...UNIT_SQUARE, series, xLabel: "Recall", yLabel: "precision", label: "Precision by recall" });
  return [
    lead(isDetection
      ? "How precision falls as more objects are found, at IoU 0.50; the area is the class's average precision."
      : `Each class against the rest: how precision falls as more of its ${itemWord()}s are found.`),
    h("div", { class: "columns" }, panel("Precision and recall", chart),
      isDetection ? thresholdPanel(known, metrics.thresholds) : calibrationPanel(metrics)),
  ];
}

const UNIT_SQUARE = { xDomain: [0, 1], yDomain: [0, 1] };

function thresholdPanel(perClass, thresholds) {
  const series = perClass.map((one) => ({
    name: one.class_name, points: hundredths.map((threshold, index) => [threshold, one.f1_by_confidence[index]]),
  }));
  const means = hundredths.map((_, index) => sum(perClass.map((one) => one.f1_by_confidence[index])) / perClass.length);
  const best = means.indexOf(Math.max(...means));
  return panel("F1 by confidence threshold",
    lineChart({ ...UNIT_SQUARE, series, xLabel: "Threshold", yLabel: "F1", label: "F1 by confidence threshold" }),
    means[best] > 0 && small(`Averaged over classes F1 is highest, ${score(means[best])}, at a threshold of `,
      `${hundredths[best].toFixed(2)}; `,
      `this page uses ${thresholds.confidence}.`));
}

function calibrationPanel({ calibration, overall }) {
  const bins = calibration.filter((bin) => bin.count);
  const series = [
    {
      name: "model", points: bins.map((bin) => [bin.confidence, bin.accuracy]),
      note: bins.map((bin) => plural(bin.count, itemWord())),
    },
    { name: "ideal", points: [[0, 0], [1, 1]], style: "k6 d1" },
  ];
  return panel("Calibration",
    lineChart({ ...UNIT_SQUARE, series, xLabel: "Confidence", yLabel: "share that is right", label: "Calibration" }),
    small(`Below the ideal line the model is surer than it is right. Mean distance: ${percent(overall.ece, 1)}.`));
}

function imagesSection({ task }, view) {
  const key = (kind, isRight, meaning) => h("span", { class: "key small muted" },
    svg("svg", { viewBox: "0 0 26 14", class: "picture", "aria-hidden": "true" },
      boxShape({ kind, xyxy: [4, 3, 22, 11], isRight })), meaning);
  return [
    lead(itemWord() === "row" ? "The values as they came; the worst first. Choose a row to see all its probabilities."
      : "Choose a picture to see it larger. Arrow keys go to the next one."),
    task === "detection" && h("p", null, key("truth", true, "truth, found"), key("truth", false, "truth, missed"),
      key("found", true, "right prediction"), key("found", false, "wrong prediction")),
    view.elements,
  ];
}
