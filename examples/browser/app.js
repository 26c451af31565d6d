// The page: choose, drop or paste an image; nothing leaves the browser.

import { decode, openBundle } from "./bundle.js";

const $ = (id) => document.getElementById(id);
const percent = (value) => `${Math.round(value * 100)} %`;
// The colours of visionyard/inference/drawing.py.
const colour = (id) => `hsl(${((0.58 + id * 0.381966) % 1) * 360} 85% ${[50, 38, 62][id % 3]}%)`;

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
    draw(image, result);
    list(result);
    say(`${image.width} x ${image.height} px, ${(performance.now() - began).toFixed(0)} ms in this browser`);
  } catch (error) {
    say(error.message, true);
  }
}

function draw(image, result) {
  const canvas = $("picture");
  canvas.hidden = false;
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  const rgba = new ImageData(image.width, image.height);
  for (let i = 0; i < image.width * image.height; i++) {
    rgba.data.set(image.data.subarray(i * 3, i * 3 + 3), i * 4);
    rgba.data[i * 4 + 3] = 255;
  }
  context.putImageData(rgba, 0, 0);
  // As large on the screen for a small image as for a large one.
  const pixel = image.width / (canvas.getBoundingClientRect().width || image.width);
  context.font = `${13 * pixel}px system-ui, sans-serif`;
  context.lineWidth = 2.5 * pixel;
  const label = (text, x, y, fill) => {
    const [width, height] = [context.measureText(text).width + 8 * pixel, 19 * pixel];
    const [left, top] = [Math.max(0, Math.min(x, image.width - width)), y < height ? y : y - height];
    context.fillStyle = fill;
    context.fillRect(left, top, width, height);
    context.fillStyle = "#fff";
    context.fillText(text, left + 4 * pixel, top + 14 * pixel);
  };
  for (const box of [...(result.boxes ?? [])].reverse()) {
    const [left, top, right, bottom] = box.xyxy;
    context.strokeStyle = colour(box.class_id);
    context.strokeRect(left, top, right - left, bottom - top);
    label(`${box.class} ${percent(box.confidence)}`, left, top, colour(box.class_id));
  }
  if (result.top) label(`${result.class} ${percent(result.confidence)}`, 0, 0, colour(result.class_id));
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
