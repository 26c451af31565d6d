// The page: choose, drop or paste an image; nothing leaves the browser.

import { decode, openBundle } from "./bundle.js";
import { draw, percent } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const NAMED_CLASSES = 12;

const bundle = openBundle();
// The image that was asked about last; an answer about another one comes too late to be shown.
let latest = null;
let shown = null;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

async function look(blob) {
  latest = blob;
  show(null);
  say("Looking...");
  try {
    const opened = await bundle;
    const image = await decode(blob);
    await painted();
    const began = performance.now();
    const result = await opened.predict(image);
    if (latest !== blob) return;
    show({ image, result });
    say(`${image.width} x ${image.height} px, ${(performance.now() - began).toFixed(0)} ms in this browser`);
  } catch (error) {
    if (latest === blob) say(error.message, true);
  }
}

// The model runs where the page is drawn: without a moment for that, the page would not say what it does.
const painted = () => new Promise((done) => { setTimeout(done, 20); });

function show(found) {
  shown = found;
  $("stage").hidden = $("found").hidden = !found;
  if (!found) return;
  draw($("picture"), found.image, found.result);
  list(found.result);
}

function list(result) {
  const rows = (result.boxes ?? result.top).map((one) => {
    const row = document.createElement("tr");
    for (const text of [one.class, percent(one.confidence), one.xyxy ? one.xyxy.map(Math.round).join(", ") : ""]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  $("found").tBodies[0].replaceChildren(...rows);
}

const take = (files) => files[0] && look(files[0]);
// So that the same file can be chosen again.
$("file").addEventListener("click", ({ target }) => { target.value = ""; });
$("file").addEventListener("change", ({ target }) => take(target.files));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
addEventListener("paste", (event) => take(event.clipboardData.files));
// Lines and letters keep their size on the screen when a phone is turned.
addEventListener("resize", () => shown && draw($("picture"), shown.image, shown.result));
if ("serviceWorker" in navigator) navigator.serviceWorker.register("./service-worker.js");
bundle.then(
  ({ manifest: { name, task, classes } }) => {
    $("name").textContent = name;
    if (!latest) say(`${task}: ${classes.slice(0, NAMED_CLASSES).join(", ")}${classes.length > NAMED_CLASSES ? ", ..." : ""}`);
  },
  (error) => say(error.message, true),
);
// For the tests, and for the console.
globalThis.visionyard = { bundle, decode };
