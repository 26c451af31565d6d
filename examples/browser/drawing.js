// What was found, drawn on the image: masks, boxes, keypoints and names, in the colours of visionyard/pages/marks.py.

import { forEachStretch } from "./masks.js";

export const percent = (value) => `${Math.round(value * 100)} %`;

// Keypoints below it are those that the model believes hidden or outside.
const LEAST_SURE = 0.5;

/** The colour of a class as red, green and blue, 0 to 255. */
export function colourOf(classId) {
  const hue = ((0.58 + classId * 0.381966) % 1) * 360;
  const lightness = [0.5, 0.38, 0.62][classId % 3];
  const chroma = 0.85 * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

const css = (colour) => `rgb(${colour.join(" ")})`;
const lettersOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 150 ? "#141414" : "#fff");

/**
 * @param canvas Is made as large as the image, small ones enlarged so that lines and letters are sharp, and as large on
 *   the screen as its parent has room for. The parent is scrolled to the surest box where not all is seen.
 * @param image {data, width, height}, RGB bytes.
 * @param result Of `Bundle.predict`.
 */
export function draw(canvas, image, result) {
  const scale = scaleOnScreen(image, canvas.parentElement.clientWidth);
  const enlarged = Math.ceil(Math.max(1, scale * (globalThis.devicePixelRatio || 1)));
  [canvas.width, canvas.height] = [image.width * enlarged, image.height * enlarged];
  canvas.style.width = `${image.width * scale}px`;
  const context = canvas.getContext("2d");
  // The surest lie on top.
  const boxes = [...(result.boxes ?? [])].reverse();
  const picture = new OffscreenCanvas(image.width, image.height);
  picture.getContext("2d").putImageData(tinted(image, boxes), 0, 0);
  context.scale(enlarged, enlarged);
  context.drawImage(picture, 0, 0);
  const marks = new Marks(context, image, 1 / scale);
  const name = (one) => `${one.class} ${percent(one.confidence)}`;
  // Names that would lie on those of surer boxes are left out.
  const named = [];
  for (const box of result.boxes ?? []) {
    const place = marks.place(name(box), box.xyxy[0], box.xyxy[1]);
    if (!named.some((other) => touch(place, other))) named.push(Object.assign(place, { box }));
  }
  for (const box of boxes) {
    const colour = colourOf(box.class_id);
    marks.box(box.xyxy, colour);
    for (const [x, y, sure] of box.keypoints ?? []) if (sure >= LEAST_SURE) marks.dot(x, y, colour);
  }
  for (const place of named.reverse()) marks.label(place, colourOf(place.box.class_id));
  if (result.top) marks.label(marks.place(name(result), 0, 0), colourOf(result.class_id));
  if (result.boxes?.length) reveal(canvas.parentElement, result.boxes[0].xyxy, scale);
}

// Where an image is longer than its place, a box may lie beside what is seen of it. Its middle comes into the middle; of
// a box that is longer itself, its beginning and name are seen.
function reveal(stage, [left, top, right, bottom], scale) {
  const start = (low, high, room) => Math.min(((low + high) / 2) * scale - room / 2, low * scale - 24);
  stage.scrollTo({ left: start(left, right, stage.clientWidth), top: start(top, bottom, stage.clientHeight) });
}

/**
 * Pixels of the screen for one of the image: small images are enlarged, large ones held within the window; of very long
 * ones the short side keeps a size in which something is seen, and the long one is scrolled.
 */
function scaleOnScreen({ width, height }, room) {
  const whole = Math.min(Math.max(1, 560 / width), room / width, (0.75 * innerHeight) / height);
  return Math.max(whole, Math.min(1, 72 / Math.min(width, height)));
}

const touch = (one, other) => one.left < other.left + other.width && other.left < one.left + one.width
  && one.top < other.top + other.height && other.top < one.top + one.height;

/** The image with each mask laid over it, half transparent. */
function tinted({ data: rgb, width, height }, boxes) {
  const picture = new ImageData(width, height);
  const { data } = picture;
  for (let from = 0, to = 0; to < data.length; from += 3, to += 4) {
    data[to] = rgb[from];
    data[to + 1] = rgb[from + 1];
    data[to + 2] = rgb[from + 2];
    data[to + 3] = 255;
  }
  for (const box of boxes) {
    if (!box.mask) continue;
    const colour = colourOf(box.class_id);
    forEachStretch(box.mask.rle, (column, top, bottom) => {
      for (let row = top; row < bottom; row++) {
        const at = (row * width + column) * 4;
        for (let c = 0; c < 3; c++) data[at + c] = (data[at + c] + colour[c]) >> 1;
      }
    });
  }
  return picture;
}

/** Draws with lines and letters that are as large on the screen for a small image as for a large one. */
class Marks {
  /** @param pixel Pixels of the image in one of the screen. */
  constructor(context, image, pixel) {
    Object.assign(this, { context, image, pixel });
    context.font = `${13 * pixel}px system-ui, sans-serif`;
  }

  box([left, top, right, bottom], colour) {
    this.context.lineWidth = 2.5 * this.pixel;
    this.context.strokeStyle = css(colour);
    this.context.strokeRect(left, top, right - left, bottom - top);
  }

  /** Where a name at the upper left corner of a box lies: above it, or within it at the image's upper border. */
  place(text, x, y) {
    const { context, image, pixel } = this;
    const [width, height] = [Math.min(context.measureText(text).width + 8 * pixel, image.width), 19 * pixel];
    const left = Math.min(x, image.width - width);
    const top = y < height ? Math.min(y, Math.max(0, image.height - height)) : y - height;
    return { text, left, top, width, height };
  }

  label({ text, left, top, width, height }, colour) {
    const { context, pixel } = this;
    context.fillStyle = css(colour);
    context.fillRect(left, top, width, height);
    context.fillStyle = lettersOn(colour);
    context.fillText(text, left + 4 * pixel, top + 14 * pixel, width - 8 * pixel);
  }

  dot(x, y, colour) {
    const { context, pixel } = this;
    context.beginPath();
    context.arc(x, y, 3.5 * pixel, 0, 2 * Math.PI);
    context.fillStyle = css(colour);
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = pixel;
    context.stroke();
  }
}
