// Put the page together.

const content = JSON.parse(document.getElementById("content").textContent);
const view = gallery(content);
const go = (id) => document.getElementById(id).scrollIntoView();
const chooser = {
  choose: (truth, said) => { view.update({ cell: `${truth}-${said}`, filter: "all", class: "" }); go("images"); },
  listen: (listener) => view.listeners.push(listener),
};
const SECTIONS = [
  { id: "metrics", name: "Metrics", fill: metricsSection },
  { id: "confusion", name: "Confusion", title: "What is taken for what", fill: (all) => confusionSection(all, chooser) },
  { id: "curves", name: "Curves", title: "Precision and recall", fill: curvesSection },
  { id: "images", name: capital(`${content.item}s`), title: `Test ${content.item}s`, fill: (all) => imagesSection(all, view) },
  { id: "data", name: "Data", fill: dataSection },
  { id: "training", name: "Training", fill: trainingSection },
  { id: "parity", name: "Parity", title: "Parity of the exported formats", fill: paritySection },
  { id: "benchmark", name: "Benchmark", title: "Speed", fill: benchmarkSection },
  { id: "promotion", name: "Promotion", fill: promotionSection },
  content.cost && { id: "cost", name: "Cost", fill: costSection },
  { id: "lineage", name: "Lineage", fill: lineageSection },
].filter(Boolean);

build(document.getElementById("top"), null, summarySection(content));
build(document.querySelector("main"), null, [
  SECTIONS.map(({ id, name, title, fill }) =>
    h("section", { id, "aria-labelledby": `${id}-heading` }, h("h2", { id: `${id}-heading` }, title ?? name), fill(content))),
  h("footer", null, "Made by Visionyard. This page needs no network and keeps nothing."),
]);
// In a frame without an address of its own a plain #link would load the page around it, so links scroll by script.
build(document.querySelector("nav"), null, [h("div", null, SECTIONS.map(({ id, name }) =>
  h("a", { href: `#${id}`, onclick: (event) => { event.preventDefault(); go(id); } }, name)))]);
view.start();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
