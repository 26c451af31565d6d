// Sections on where the model comes from and where it goes: data, training, parity, speed, lineage.

const SPLITS = ["train", "val", "test"];
const absent = (told) => h("div", { class: "panel muted" }, told);

function dataSection({ classes, data, task }) {
  const labelCount = sum(data.label_counts.flat());
  const rows = classes.map((name, index) => ({ name, counts: data.label_counts[index] }));
  const largest = Math.max(1, ...rows.map(({ counts }) => sum(counts)));
  const mix = ({ counts }) => h("span", { class: "bar", "aria-hidden": "true" }, counts.map((value, index) =>
    h("i", { class: `s${index}`, style: { width: `${(100 * value) / largest}%` } })));
  const columns = [
    text("Class", (row) => [row.name, mix(row)]),
    ...SPLITS.map((split, index) => number([h("i", { class: `swatch s${index}` }), split], (row) => count(row.counts[index]))),
    number("all", (row) => count(sum(row.counts))),
  ];
  const isDetection = task === "detection";
  const labels = isDetection ? plural(labelCount, "box", "boxes") : `${count(labelCount)} of them labelled`;
  return [
    lead(`${plural(sum(Object.values(data.splits)), itemWord())}, ${labels}, ${plural(classes.length, "class", "classes")}.`),
    data.hidden && small(data.hidden),
    h("div", { class: "columns" },
      panel(`${isDetection ? "Boxes" : capital(`${itemWord()}s`)} by class and split`, table(columns, rows)),
      panel("The split", splitFigure(data), groupLists(data.groups), data.leak && leakDetails(data.leak))),
    data.examples.length > 0 && panel("Examples from training", h("ul", { class: "cards" }, data.examples.map((image) => exampleCard(image, classes)))),
    panel("Problems found in the data", problemList(data.problems)),
  ];
}

function splitFigure({ splits, groups }) {
  const most = Math.max(1, ...Object.values(splits));
  const block = (size, title, kind) => h("i", { title, class: kind, style: { flex: String(size) } });
  const blocks = (split) => {
    if (groups.is_one_an_item) return block(1);
    const listed = groups.largest[split];
    const rest = splits[split] - sum(listed.map(([, size]) => size));
    const named = listed.map(([name, size]) => block(size, `${name}: ${plural(size, itemWord())}`));
    return [named, rest > 0 && block(rest, "smaller groups", "rest")];
  };
  const told = (split) => groups.is_one_an_item
    ? plural(splits[split], itemWord()) : `${plural(groups.counts[split], "group")}, ${plural(splits[split], itemWord())}`;
  return [
    SPLITS.map((split, index) => h("div", { class: "split-row" }, h("strong", null, split),
      h("span", {
        class: `strip s${index}${groups.largest[split].length > 40 ? " is-fine" : ""}`, "aria-hidden": "true",
        style: { width: `${(100 * splits[split]) / most}%` },
      }, blocks(split)), h("span", { class: "number" }, told(split)))),
    small(itemWord() === "row"
      ? (groups.is_one_an_item ? "Each row is a group of its own: no group column is named." : "Each block is a group of rows.")
      : groups.is_one_an_item
        ? "Each image is a group of its own: no clip or scene is named." : "Each block is a group: a clip or a scene."),
  ];
}

function groupLists({ is_one_an_item: isPlain, counts, largest, straddling, straddling_count: shared }) {
  const columns = [text("Group", ([name]) => name), number(capital(`${itemWord()}s`), ([, size]) => count(size))];
  const list = (split) => fold(`Groups of ${split}`, counts[split], h("div", { class: "tall" }, table(columns, largest[split])),
    counts[split] > largest[split].length && small(`and ${count(counts[split] - largest[split].length)} smaller ones`));
  return [
    shared > 0 && fold(verdict(false, "Groups that stand in two splits"), shared,
      h("ul", null, straddling.map((name) => h("li", null, name)))),
    !isPlain && SPLITS.map(list),
  ];
}

function leakDetails(leak) {
  if (isKnown(leak.identical_rows)) {
    return fold("Leak certificate", null, facts([
      ["Groups in two splits", count(leak.group_overlap)], ["Sets of like rows in two splits", count(leak.identical_rows)],
    ]));
  }
  const kinds = { group: "same group", identical: "identical image", near_duplicate: "show the same" };
  const side = (one) => h("figure", null,
    one.picture && h("img", { src: one.picture, alt: one.key, loading: "lazy" }),
    h("figcaption", null, h("strong", null, one.split), ` ${one.source}${when(one)}`));
  const agreed = ({ kind, score: share }) => kind === "near_duplicate" && share != null ? `: ${percent(share)} of the blocks agree` : "";
  const budget = leak.held_out_items != null && [
    "Images of val and test with one elsewhere",
    `${count(leak.near_duplicate_items)} of ${count(leak.held_out_items)} (budget ${percent(leak.leak_budget, 1)})`,
  ];
  return fold("Leak certificate", null,
    facts([
      ["Groups in two splits", count(leak.group_overlap)], ["Identical images", plural(leak.identical_images, "pair")],
      ["Near-duplicates in two splits", alikeCount(leak)],
      budget,
      leak.cluster_count != null && ["Clusters of near-duplicates in all", count(leak.cluster_count)],
    ].filter(Boolean)),
    leak.method && small(leak.method.description),
    h("ul", { class: "pairs" }, leak.examples.map((one) => h("li", null,
      h("p", null, kinds[one.kind], agreed(one)), side(one.first), side(one.second)))));
}

function exampleCard(image, classes) {
  const boxes = image.boxes.map((xyxy) => ({ kind: "truth", xyxy, isRight: true }));
  const labels = [...new Set(image.class_ids)].map((id) => {
    const size = image.class_ids.filter((other) => other === id).length;
    return boxes.length ? `${size} ${classes[id]}` : classes[id];
  });
  return h("li", { class: "card is-static" }, picture(image, boxes),
    caption(h("span", null, labels.join(", ") || "no label"), image));
}

function problemList(problems) {
  if (!problems.length) return h("p", { class: "muted" }, "None.");
  const place = ({ file, item }) => [file, item].filter(Boolean).join(" · ") || "dataset";
  return problems.map(({ code, count: size, listed }) => fold(words(code), size, h("ul", null,
    listed.map((one) => h("li", null, h("code", null, place(one)), " ", one.message)),
    size > listed.length && h("li", { class: "muted" }, `and ${count(size - listed.length)} more in problems.jsonl`))));
}

const CURVE_KINDS = [
  ["Metrics on the validation split", /map|top_|f1|precision|recall|accuracy/, [0, 1]], ["Loss", /loss/, null],
  ["Learning rate", /learning_rate|^lr/, null], ["Others", /./, null],
];

function trainingSection({ training: { curves, facts: settings } }) {
  const epochOf = (row) => row.epoch ?? curves.indexOf(row) + 1;
  const names = [...new Set(curves.flatMap(Object.keys))].filter((name) =>
    name !== "epoch" && curves.some((row) => typeof row[name] === "number"));
  const kindOf = (name) => CURVE_KINDS.find(([, pattern]) => pattern.test(name))[0];
  const seriesOf = (name) => ({
    name: METRIC_NAMES[name] ?? words(name),
    points: curves.filter((row) => typeof row[name] === "number").map((row) => [epochOf(row), row[name]]),
  });
  const charts = CURVE_KINDS.map(([kind, , yDomain]) => {
    const series = names.filter((name) => kindOf(name) === kind).map(seriesOf);
    const yLabel = series.length === 1 ? series[0].name : "";
    return series.length > 0 && panel(kind, lineChart({ series, xLabel: "Epoch", yLabel, yDomain, label: `${kind} by epoch` }));
  });
  const columns = [text("Epoch", epochOf), ...names.map((name) => number(words(name), (row) => short(row[name])))];
  const told = Object.entries(settings).map(([name, value]) => [words(name), String(value)]);
  return [
    settings.best_epoch && lead(`${settings.model_name} ${settings.preset ?? ""}: best after epoch ${settings.best_epoch} `,
      `of ${curves.length}.`),
    !names.length && absent("The training left no curves."),
    h("div", { class: "columns" }, charts, told.length > 0 && panel("Settings", facts(told))),
    names.length > 0 && panel(null, fold("Values of every epoch", null, h("div", { class: "tall" }, table(columns, curves)))),
  ];
}

function paritySection({ parity }) {
  if (!parity) return absent("The model has not been exported yet. The page made at the end of the run has the table.");
  const { tolerances, reference_metric: reference } = parity;
  const formats = Object.entries(parity.formats).map(([name, result]) => ({ name, ...result }));
  const metric = metricName(parity.metric_name);
  const columns = [
    text("Format", (one) => one.name),
    text("Verdict", (one) => h("strong", null, verdict(one.is_passed, one.is_passed ? "✓ passed" : "✗ failed"))),
    number(`${capital(itemWord())}s alike`, ({ rows }) => rows.some((row) => row.verdict === "not judged") ? "not judged"
      : `${rows.filter((row) => row.verdict === "same").length} of ${rows.length}`),
    number("Largest score gap", ({ rows }) => short(Math.max(0, ...rows.map((row) => row.score_gap)))),
    number(metric, (one) => score(one.metric)), number("Gap", (one) => short(one.metric_gap)),
    // A format that trades exactness for speed has tolerances of its own.
    number("Allowed", (one) => short(one.tolerances ? one.tolerances.metric : tolerances.metric)),
  ];
  return [
    lead(`Every exported format against the trained PyTorch model, on test ${itemWord()}s and odd ones. Allowed: class scores within `,
      `${short(tolerances.score_applied)}, ${itemWord() === "row" ? "" : `boxes at IoU ${tolerances.box_iou}, `}${metric} within ${short(tolerances.metric)}.`),
    panel(null, table(columns, formats), small(`PyTorch: ${metric} ${score(reference)}.`), formats.map(parityRows)),
  ];
}

function parityRows({ name, rows, problems }) {
  const columns = [
    text(capital(itemWord()), (row) => row.image), text("Kind", (row) => row.kind), number("Compared", (row) => count(row.compared)),
    number("Missing", (row) => count(row.missing)), number("Extra", (row) => count(row.extra)),
    number("IoU gap", (row) => short(row.iou_gap)), number("Score gap", (row) => short(row.score_gap)),
    text("Verdict", (row) => row.verdict === "not judged" ? row.verdict
      : verdict(row.verdict === "same", row.verdict === "same" ? "same" : row.problems.join("; "))),
  ];
  const worstFirst = [...rows].sort((a, b) => b.problems.length - a.problems.length || b.score_gap - a.score_gap);
  return fold(`${name}: every ${itemWord()}`, rows.length,
    problems.length > 0 && h("ul", null, problems.map((told) => h("li", { class: "bad" }, told))),
    h("div", { class: "tall" }, table(columns, worstFirst)));
}

function benchmarkSection({ benchmark }) {
  if (!benchmark) return absent("The benchmark has not run yet. The page made at the end of the run has its table and plot.");
  const { measurements, fastest, most_images_per_s: most, machine, skipped } = benchmark;
  const isFastest = (row) => ["format", "batch_size", "threads"].every((name) => row[name] === fastest[name]);
  const rows = [...measurements].sort((a, b) =>
    a.batch_size - b.batch_size || a.threads - b.threads || a.format.localeCompare(b.format));
  const columns = [
    text("Format", (row) => row.format), number("Batch", (row) => row.batch_size), number("Threads", (row) => row.threads),
    ...["p50", "p95", "p99"].map((name) => number(name, (row) => milliseconds(row[`${name}_ms`]))),
    number(`${capital(itemWord())}s/s`, (row) => row.images_per_s.toFixed(1)), number("Memory", (row) => bytes(row.peak_memory_bytes)),
    number("File", (row) => bytes(row.file_bytes)), number("Load", (row) => `${milliseconds(row.load_ms)} ms`),
  ];
  return [
    lead(`From ${itemWord() === "row" ? "JSON text" : "image file"} to prediction on ${machine.cpu} (${plural(machine.cores, "core")}). `,
      `Quickest answer: ${fastest.format} with ${plural(fastest.threads, "thread")}, ${milliseconds(fastest.p50_ms)} ms. `,
      `Most throughput: ${most.format}, batch ${most.batch_size}, ${plural(most.threads, "thread")}, `,
      `${most.images_per_s.toFixed(1)} ${itemWord()}s/s.`),
    panel(`Where the time of one ${itemWord()} goes, on average`, timeChart(rows, isFastest)),
    panel("Time of a call, in ms", table(columns, rows), skipped.length > 0 && small(`Left out: ${skipped.join("; ")}.`)),
  ];
}

function promotionSection({ promotion }) {
  if (!promotion) return absent("The new model has not been judged yet. The page made at the end of the run has the verdict.");
  const { champion, challenger, metric, per_class: classes, statistics, approval, reasons } = promotion;
  const digest = (value) => h("span", { class: "mono" }, value.slice(0, 12));
  const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(3)}`;
  const between = ({ low, high }) => isKnown(low) && isKnown(high) ? `${signed(low)} to ${signed(high)}` : "–";
  const name = metricName(metric.name);
  const columns = [
    text("Class", (row) => row.name), number("Champion", (row) => score(row.champion)),
    number("New model", (row) => score(row.challenger)), number("Change in 90 % of the draws", between),
    text("Verdict", (row) => verdict(!row.is_over_budget, row.is_over_budget ? "✗ worse than allowed" : "✓ allowed")),
  ];
  const pairs = [
    ["Champion", champion ? [`${champion.model}, version ${champion.version}, `, digest(champion.bundle_digest)] : "none"],
    ["New model", digest(challenger.bundle_digest)],
    [name, champion ? `${score(metric.champion)} → ${score(metric.challenger)}` : score(metric.challenger)],
    isKnown(metric.difference) && ["Difference", signed(metric.difference) +
      (isKnown(metric.low) ? `, ${between(metric)} at ${percent(statistics.confidence)}` : "")],
    approval && ["Approved", `by ${approval.by} on ${approval.when}${approval.comment ? `: ${approval.comment}` : ""}`],
  ].filter(Boolean);
  return [
    lead(promotionTold(promotion)),
    h("div", { class: "columns" },
      panel("Reasons", h("ul", null, reasons.map((told) => h("li", null, told)))),
      panel(champion ? `The two models on test ${itemWord()}s that neither was trained on` : "The model", facts(pairs))),
    classes.length > 0 && panel(`${metricName(statistics.class_metric)} by class`, table(columns, classes)),
    Object.keys(statistics).length > 0 && panel(null, fold("How it was judged", null,
      facts(Object.entries(statistics).map(([key, value]) => [words(key), String(value)])))),
  ];
}

function promotionTold({ is_pending: isPending, verdict: said, champion }) {
  if (isPending) return "The new model passed; a person's approval is missing.";
  if (said !== "promote") return "The new model was not promoted.";
  return champion ? "The new model is the champion now." : "The new model was promoted; there was no champion before it.";
}

function costSection({ cost }) {
  const { currency, stages, stored_bytes: stored, stored_cost: storedCost, total, per_point: point, metric } = cost;
  const money = (value) => value.toFixed(4);
  const columns = [
    text("Stage", (row) => words(row.stage)), number("Tries", (row) => row.try_count),
    number("Time s", (row) => row.elapsed_s.toFixed(1)), number("Core s", (row) => row.cpu_s.toFixed(1)),
    number("GPU s", (row) => row.accelerator_s.toFixed(1)), text("GPU", (row) => row.accelerator_type || "–"),
    number("Read", (row) => bytes(row.read_bytes)), number("Written", (row) => bytes(row.written_bytes)),
    number(currency, (row) => money(row.cost)),
  ];
  return [
    lead(`${money(total)} ${currency}`,
      isKnown(point) && `, which is ${short(point)} ${currency} for each hundredth of ${metricName(metric)}`, "."),
    panel("What was held, times the price table", table(columns, stages),
      stored > 0 && small(`What the run left in the store, ${bytes(stored)}: ${money(storedCost)} ${currency}.`)),
  ];
}

const lineageSection = ({ lineage }) => [
  lead("What this page and the model were made from. The same digests make the same model again."),
  panel(null, facts(Object.entries(lineage).map(([name, value]) => [words(name), h("span", { class: "mono" }, String(value))]))),
];
