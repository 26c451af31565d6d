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
 * @param canvas Is made as large as the image.
 * @param image {data, width, height}, RGB bytes.
 * @param result Of `Bundle.predict`.
 */
export function draw(canvas, image, result) {
  canvas.hidden = false;
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  // The surest lie on top.
  const boxes = [...(result.boxes ?? [])].reverse();
  context.putImageData(tinted(image, boxes), 0, 0);
  const marks = new Marks(context, canvas);
  for (const box of boxes) {
    const colour = colourOf(box.class_id);
    marks.box(box.xyxy, colour);
    marks.label(`${box.class} ${percent(box.confidence)}`, box.xyxy[0], box.xyxy[1], colour);
    for (const [x, y, sure] of box.keypoints ?? []) if (sure >= LEAST_SURE) marks.dot(x, y, colour);
  }
  if (result.top) marks.label(`${result.class} ${percent(result.confidence)}`, 0, 0, colourOf(result.class_id));
}

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
  constructor(context, canvas) {
    const { width, height } = canvas.getBoundingClientRect();
    this.context = context;
    this.imageWidth = canvas.width;
    // Pixels of the image in one of the screen; the whole image is shown, whatever room the canvas has.
    this.pixel = Math.max(canvas.width / (width || canvas.width), canvas.height / (height || canvas.height));
    context.font = `${13 * this.pixel}px system-ui, sans-serif`;
  }

  box([left, top, right, bottom], colour) {
    this.context.lineWidth = 2.5 * this.pixel;
    this.context.strokeStyle = css(colour);
    this.context.strokeRect(left, top, right - left, bottom - top);
  }

  label(text, x, y, colour) {
    const { context, pixel } = this;
    const [width, height] = [context.measureText(text).width + 8 * pixel, 19 * pixel];
    const [left, top] = [Math.max(0, Math.min(x, this.imageWidth - width)), y < height ? y : y - height];
    context.fillStyle = css(colour);
    context.fillRect(left, top, width, height);
    context.fillStyle = lettersOn(colour);
    context.fillText(text, left + 4 * pixel, top + 14 * pixel);
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
