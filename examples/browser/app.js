// The page: choose, drop or paste an image; nothing leaves the browser.

import { decode, openBundle } from "./bundle.js";
import { draw, percent } from "./drawing.js";

const $ = (id) => document.getElementById(id);

const bundle = openBundle();

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

async function look(blob) {
  say("Looking...");
  try {
    const opened = await bundle;
    const image = await decode(blob);
    const began = performance.now();
    const result = await opened.predict(image);
    draw($("picture"), image, result);
    list(result);
    say(`${image.width} x ${image.height} px, ${(performance.now() - began).toFixed(0)} ms in this browser`);
  } catch (error) {
    say(error.message, true);
  }
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
  $("found").hidden = false;
}

const take = (files) => files[0] && look(files[0]);
$("file").addEventListener("change", (event) => take(event.target.files));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
addEventListener("paste", (event) => take(event.clipboardData.files));
if ("serviceWorker" in navigator) navigator.serviceWorker.register("./service-worker.js");
bundle.then(
  ({ manifest }) => { $("name").textContent = manifest.name; say(`${manifest.task}: ${manifest.classes.join(", ")}`); },
  (error) => say(error.message, true),
);
// For the tests, and for the console.
globalThis.visionyard = { bundle, decode };
