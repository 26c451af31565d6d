// Test images: cards that can be filtered and sorted, and a viewer. State stands in the address (#filter=wrong&sort=...),
// except inside a frame, whose history belongs to the page around it. Rows of a table stand in one.

const SORTS = {
  worst: { name: "worst first", valueOf: null },
  unsure: { name: "least confident first", valueOf: (image) => image.score },
  sure: { name: "most confident first", valueOf: (image) => negative(image.score) },
  "low-iou": { name: "lowest IoU first", valueOf: (image) => image.mean_iou },
  "high-iou": { name: "highest IoU first", valueOf: (image) => negative(image.mean_iou) },
};
const DEFAULTS = { filter: "all", class: "", sort: "worst", cell: "" };
// More come at the press of a button: a page of 200 pictures is tiring to scroll past.
const FIRST_CARDS = 30;
const MOST_LABELLED_BOXES = 40;
const isFramed = window.self !== window.top;

// What people call what was looked at: image, or row.
const itemWord = () => content.item;
const capital = (text) => text.replace(/^./, (letter) => letter.toUpperCase());
const negative = (value) => (value === null ? null : -value);
const when = ({ timestamp_s: time }) => (time === null ? "" : ` · ${time.toFixed(1)} s`);

// From the rows that the page carries, [class, partner, xyxy] and [class, partner, confidence, IoU, xyxy], to boxes. A box
// is right when its partner is of the same class.
function boxesOf({ truth, found }) {
  const trueBoxes = truth.map(([classId, partner, ...xyxy]) =>
    ({ kind: "truth", classId, xyxy, isRight: found[partner]?.[0] === classId }));
  const foundBoxes = found.map(([classId, partner, confidence, iou, ...xyxy]) =>
    ({ kind: "found", classId, xyxy, confidence, iou, on: truth[partner]?.[0], isRight: truth[partner]?.[0] === classId }));
  return [...trueBoxes, ...foundBoxes];
}

function boxShape({ kind, xyxy: [left, top, right, bottom], isRight }) {
  const place = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  return svg("g", { class: `${kind}-box` },
    svg("rect", { ...place, class: "halo" }), svg("rect", { ...place, class: `${kind}${isRight ? "" : " is-wrong"}` }));
}

function picture(image, boxes, labelOf = null) {
  const size = Math.max(image.width, image.height) / 42;
  const label = (box) => svg("g", { class: `${box.kind}-box` }, svg("text", {
    x: box.xyxy[0] + size / 4, y: Math.max(size, box.xyxy[1] - size / 3), "font-size": size, "stroke-width": size / 5,
  }, labelOf(box)));
  return h("div", { class: "picture" }, h("img", { src: image.picture, alt: "", decoding: "async" }),
    svg("svg", { viewBox: `0 0 ${image.width} ${image.height}`, "aria-hidden": "true" },
      boxes.map(boxShape), labelOf && boxes.map(label)));
}

const caption = (told, image) => h("span", { class: "caption" }, told,
  h("span", { class: "name", title: image.source }, baseName(image.source) + when(image)));

function toldOf(image, classes) {
  if (!image.counts) {
    const [said, probability] = image.found[0];
    const name = image.is_right ? classes[said] : `${classes[image.truth]} → ${classes[said]}`;
    return `${image.is_right ? "✓" : "✗"} ${name} ${percent(probability)}`;
  }
  const [right, wrong, missed] = image.counts;
  if (image.is_right) return right ? `✓ all ${right} found` : "✓ rightly empty";
  return `✗ ${[`${right} found`, missed && `${missed} missed`, wrong && `${wrong} wrong`].filter(Boolean).join(", ")}`;
}

function gallery({ task, classes, metrics, images }) {
  const labels = metrics.confusion_matrix.labels;
  const state = { ...DEFAULTS };
  const listeners = [];
  const isTable = content.item === "row";
  const names = images.columns ?? [];
  const list = h(isTable ? "tbody" : "ul", { class: isTable ? null : "cards" });
  const shown = h("p", { class: "shown", "aria-live": "polite" });
  const moreButton = h("button", { type: "button", onclick: () => { isWhole = true; update(); } });
  const more = h("p", { class: "more" }, moreButton);
  let visible = [], isWhole = false;

  const viewer = imageViewer(task, classes, () => visible);
  const line = (image) => h("tr", { "data-key": image.key },
    h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => viewer(image) },
      verdict(image.is_right, image.is_right ? "✓" : "✗"), ` ${image.key}`)),
    h("td", null, classes[image.truth]),
    h("td", null, h("span", { class: image.is_right ? null : "bad" }, classes[image.found[0][0]])),
    h("td", { class: "number" }, percent(image.found[0][1])),
    names.map((name) => h("td", { class: typeof image.values[name] === "number" ? "number" : null }, shownValue(image.values[name]))));
  const cards = new Map(images.shown.map((image) => [image, isTable ? line(image) : h("li", null,
    h("button", { type: "button", class: "card", "data-key": image.key, onclick: () => viewer(image) },
      picture(image, task === "detection" ? boxesOf(image) : []),
      caption(h("span", { class: `verdict ${image.is_right ? "good" : "bad"}` }, toldOf(image, classes)), image)))]));

  const hasClass = ({ truth, found }, classId) => task === "detection"
    ? [...truth, ...found].some((row) => row[0] === classId) : truth === classId || found[0][0] === classId;
  const passes = (image) =>
    (state.filter === "all" || image.is_right === (state.filter === "right")) &&
    (!state.class || hasClass(image, classes.indexOf(state.class))) &&
    (!state.cell || image.cells.some((cell) => cell.join("-") === state.cell));

  const update = (changes = {}) => {
    Object.assign(state, changes);
    const { valueOf } = SORTS[state.sort];
    visible = images.shown.filter(passes);
    if (valueOf) visible.sort((a, b) => (valueOf(a) ?? Infinity) - (valueOf(b) ?? Infinity));
    const first = isWhole ? visible : visible.slice(0, FIRST_CARDS);
    const told = `No ${itemWord()} fits this choice.`;
    const none = isTable ? h("tr", null, h("td", { colspan: 4 + names.length }, told)) : h("li", { class: "none" }, told);
    list.replaceChildren(...(visible.length ? first.map((image) => cards.get(image)) : [none]));
    more.hidden = first.length === visible.length;
    moreButton.textContent = `Show ${visible.length - first.length} more`;
    shown.replaceChildren(...shownText());
    listeners.forEach((listener) => listener(state));
    if (!isFramed) writeAddress(state);
  };
  const shownText = () => {
    const all = images.shown.length < images.total
      ? `${images.shown.length} on this page (of ${count(images.total)} test ${itemWord()}s)` : plural(images.total, `test ${itemWord()}`);
    if (!state.cell) return [`${visible.length} of ${all}`];
    const [truth, said] = state.cell.split("-").map((id) => labels[id]);
    return [`${visible.length} of ${all}, with truth “${truth}” and prediction “${said}” · `,
      h("button", { type: "button", class: "link", onclick: () => update({ cell: "" }) }, "show all")];
  };
  const start = () => update(stateOf(location.hash, classes, labels.length));
  window.addEventListener("hashchange", start);
  const tools = galleryTools({ isDetection: task === "detection", classes, images, update, listeners, list });
  const headings = ["Row", "Truth", "Prediction", "Probability", ...names].map((name) => h("th", { scope: "col" }, name));
  const whole = isTable && h("div", { class: "scroll panel", tabindex: 0, role: "region", "aria-label": "Test rows" },
    h("table", null, h("thead", null, h("tr", null, headings)), list));
  return { elements: [tools, shown, whole || list, more], update, listeners, start };
}

function galleryTools({ isDetection, classes, images, update, listeners, list }) {
  const right = images.shown.filter((image) => image.is_right).length;
  const choice = (value, told) => {
    const button = h("button", { type: "button", "data-filter": value, onclick: () => update({ filter: value }) }, told);
    listeners.push((state) => button.setAttribute("aria-pressed", String(state.filter === value)));
    return button;
  };
  const menu = (name, label, options) => {
    const select = h("select", { name, onchange: (event) => update({ [name]: event.target.value }) },
      options.map(([value, told]) => h("option", { value }, told)));
    listeners.push((state) => { select.value = state[name]; });
    return h("label", null, label, select);
  };
  const layer = (kind, told) => {
    const toggle = (event) => list.classList.toggle(`hide-${kind}`, !event.target.checked);
    return h("label", null, h("input", { type: "checkbox", checked: true, onchange: toggle }), told);
  };
  const sorts = Object.entries(SORTS).filter(([name]) => isDetection || !name.endsWith("iou"));
  return h("div", { class: "tools" },
    h("span", { class: "switch", role: "group", "aria-label": `Which ${itemWord()}s` }, choice("all", `All ${images.shown.length}`),
      choice("right", `Right ${right}`), choice("wrong", `Wrong ${images.shown.length - right}`)),
    menu("class", "Class", [["", "any"], ...classes.map((name) => [name, name])]),
    menu("sort", "Sort", sorts.map(([name, sort]) => [name, sort.name])),
    isDetection && [layer("truth", "truth"), layer("found", "predictions")]);
}

// Returns a function that shows an image large; its neighbours are those that `visible` returns.
function imageViewer(task, classes, visible) {
  const dialog = document.getElementById("viewer");
  const content = task === "detection" ? detectionView : classificationView;
  const open = (image) => {
    const neighbour = (distance) => visible()[visible().indexOf(image) + distance];
    const step = (distance) => neighbour(distance) && open(neighbour(distance));
    const move = (distance, told, name) => h("button", {
      type: "button", "aria-label": name, disabled: !neighbour(distance), onclick: () => step(distance),
    }, told);
    dialog.onkeydown = ({ key }) => step({ ArrowRight: 1, ArrowLeft: -1 }[key] ?? NaN);
    dialog.replaceChildren(
      h("div", { class: "bar-top" }, h("strong", { class: image.is_right ? "good" : "bad" }, toldOf(image, classes)),
        move(-1, "←", `Previous ${itemWord()}`), move(1, "→", `Next ${itemWord()}`),
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close")),
      h("div", { class: "body" }, content(image, classes)));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  return open;
}

const about = (image) => facts([[image.values ? "Row" : "File", image.source + when(image)], ["Group", image.group],
  !image.values && ["Size", `${image.width} × ${image.height} px`]].filter(Boolean));
const shownValue = (value) => (value === null ? "–" : typeof value === "number" ? short(value) : String(value));
const valuesOf = ({ values }) => facts(content.images.columns.map((name) => [name, shownValue(values[name])]));

function detectionView(image, classes) {
  const boxes = boxesOf(image);
  const sure = (box) => `${classes[box.classId]} ${percent(box.confidence)}`;
  // A true box that was found needs no label beside that of its prediction.
  const labelOf = (box) => (box.kind === "found" ? sure(box) : box.isRight ? "" : classes[box.classId]);
  const toldBox = ({ kind, isRight, on, classId }) => {
    if (isRight) return "right";
    if (kind === "truth") return "missed";
    return on === undefined ? "nothing there" : on === classId ? "found twice" : `is ${classes[on]}`;
  };
  const columns = [
    text("Box", (box) => classes[box.classId]), number("Confidence", (box) => percent(box.confidence)),
    number("IoU", (box) => (box.iou ? box.iou.toFixed(2) : "–")), text("Verdict", (box) => verdict(box.isRight, toldBox(box))),
  ];
  const listed = boxes.filter((box) => box.kind === "found" || !box.isRight);
  return [picture(image, boxes, boxes.length <= MOST_LABELLED_BOXES ? labelOf : null),
    h("div", null, table(columns, listed), about(image))];
}

function classificationView(image, classes) {
  const row = ([classId, probability]) => [
    classId === image.truth ? verdict(true, `${classes[classId]} ✓`) : h("span", null, classes[classId]),
    bar(probability), h("span", { class: "number" }, percent(probability, 1)),
  ];
  return [image.values ? valuesOf(image) : picture(image, []), h("div", null, h("div", { class: "probability" }, image.found.map(row)),
    small(`Truth: ${classes[image.truth]}, given ${percent(image.truth_probability, 1)}.`), about(image))];
}

// Values that do not fit this page are left out, so that an old address opens the page all the same.
function stateOf(hash, classes, labelCount) {
  const given = new URLSearchParams(hash.includes("=") ? hash.slice(1) : "");
  const isCell = (value) => /^\d+-\d+$/.test(value) && value.split("-").every((id) => Number(id) < labelCount);
  const fits = {
    filter: (value) => ["right", "wrong"].includes(value), class: (value) => classes.includes(value),
    sort: (value) => Object.hasOwn(SORTS, value), cell: isCell,
  };
  const kept = [...given].filter(([name, value]) => Object.hasOwn(fits, name) && fits[name](value));
  return { ...DEFAULTS, ...Object.fromEntries(kept) };
}

function writeAddress(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  const hash = changed.length ? `#${new URLSearchParams(changed)}` : "";
  const isOurs = hash || location.hash.includes("=");
  if (isOurs && hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
}
