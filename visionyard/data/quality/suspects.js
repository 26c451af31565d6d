// Suspects: a section a kind with pictures of the places meant, then how the splits differ, and what was not looked at.

const content = JSON.parse(document.getElementById("content").textContent);
const go = (id) => document.getElementById(id).scrollIntoView();
const nameOf = (kind) => words(kind).replace(/^./, (letter) => letter.toUpperCase());
const told = content.shifts.filter((one) => one.is_told);

function summarySection() {
  const tile = (label, value, note) => h("div", { class: "tile" }, h("div", { class: "label" }, label),
    h("div", { class: "value" }, value), note && h("div", { class: "note" }, note));
  return [
    h("p", { class: "eyebrow" }, words(content.task)),
    h("h1", null, content.title.replace(/: suspects$/, "")),
    h("p", { class: "muted" }, content.label),
    h("div", { class: "tiles" },
      tile("Images", count(content.item_count)),
      tile("Suspects", count(content.suspect_count), "to be looked at, not known to be wrong"),
      tile("Rare classes", count(content.balance.length)),
      content.shifts.length > 0 && tile("Shifts", count(told.length), `of ${count(content.shifts.length)} compared with train`)),
    content.notes.length > 0 && h("ul", { class: "muted" }, content.notes.map((note) => h("li", null, note))),
  ];
}

function kindSection({ told: meaning, count: size, listed }) {
  return [
    lead(meaning.replace(/^./, (letter) => letter.toUpperCase()), ". The most suspicious come first",
      size > listed.length && `; ${count(listed.length)} of ${count(size)} are drawn, --json lists all`, "."),
    h("ul", { class: "cards is-large" }, listed.map((one) => h("li", { class: "card is-static" },
      one.pictures.map((picture) => h("div", { class: "picture" }, h("img", { src: picture, alt: "", decoding: "async" }))),
      h("span", { class: "caption" }, h("span", null, one.message),
        h("span", { class: "name", title: one.source }, `${one.split} · ${baseName(one.source)}`))))),
  ];
}

function splitsSection() {
  const columns = [
    text("Compared", ({ name, split }) => `${name}, ${split}`),
    number("Distance", ({ distance }) => score(distance)),
    number("p", ({ p_value: p }) => short(p)),
    number("Median of train", ({ train_median: value }) => short(value)),
    number("of the split", ({ split_median: value }) => short(value)),
    text("", ({ is_told: isTold }) => isTold && verdict(false, "differs")),
  ];
  return [
    content.balance.length > 0 && panel("Balance", h("ul", null, content.balance.map((one) => h("li", null, one.message)))),
    content.shifts.length > 0 && panel("Held against train", table(columns, content.shifts),
      small("Distance: Kolmogorov-Smirnov, of the class mix half of the differences of the shares. p: how often chance gives as ",
        "much when whole groups change splits, corrected for the number of comparisons.")),
  ];
}

const SECTIONS = [
  ...content.kinds.map((one) => ({ id: one.kind, name: nameOf(one.kind), size: one.count, fill: () => kindSection(one) })),
  (content.shifts.length > 0 || content.balance.length > 0) && { id: "splits", name: "Splits and classes", fill: splitsSection },
].filter(Boolean);

build(document.getElementById("top"), null, summarySection());
build(document.querySelector("main"), null, [
  SECTIONS.map(({ id, name, size, fill }) => h("section", { id, "aria-labelledby": `${id}-heading` },
    h("h2", { id: `${id}-heading` }, name, isKnown(size) && ` (${count(size)})`), fill())),
  SECTIONS.length === 0 && h("p", null, "Nothing suspicious was found."),
  h("footer", null, "Made by Visionyard. This page needs no network and keeps nothing."),
]);
build(document.querySelector("nav"), null, [h("div", null, SECTIONS.map(({ id, name }) =>
  h("a", { href: `#${id}`, onclick: (event) => { event.preventDefault(); go(id); } }, name)))]);
