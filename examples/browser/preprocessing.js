// From RGB pixels to the model's input, as the bundle's `preprocessing` says: the same as visionyard/transforms.

import { pixels, resizeLinear, resizeSmooth, roundHalfEven } from "./resize.js";

/**
 * @param image {data, width, height}, RGB bytes.
 * @param spec `preprocessing` of model.json.
 * @returns {tensor, placement}: Float32Array of 3 * height * width, and where the image lies in the input.
 */
export function preprocess(image, spec) {
  const placers = { letterbox, stretch, shorter_side_crop: shorterSideCrop };
  if (!placers[spec.resize]) throw new Error(`preprocessing.resize ${spec.resize}: this page knows ${Object.keys(placers)}`);
  const { placed, placement } = placers[spec.resize](image, spec);
  return { tensor: toTensor(placed, spec), placement };
}

/** Turn a box of the input into one of the source image, inside it. */
export function toSource([left, top, right, bottom], placement) {
  return [...pointToSource([left, top], placement), ...pointToSource([right, bottom], placement)];
}

/** Turn a point of the input into one of the source image, inside it. */
export function pointToSource(point, { scale, offset, source }) {
  return point.map((value, axis) => Math.min(Math.max((value - offset[axis]) / scale[axis], 0), source[axis]));
}

function scaled(image, width, height, spec) {
  return spec.interpolation === "bilinear" ? resizeLinear(image, width, height) : resizeSmooth(image, width, height);
}

const sizes = (image, spec) => ({ source: [image.width, image.height], input: [spec.size_hw[1], spec.size_hw[0]] });

function letterbox(image, spec) {
  const [height, width] = spec.size_hw;
  const ratio = Math.min(height / image.height, width / image.width);
  const innerWidth = Math.max(1, roundHalfEven(image.width * ratio));
  const innerHeight = Math.max(1, roundHalfEven(image.height * ratio));
  const isEven = (spec.pad_side ?? "both") === "both";
  const left = isEven ? Math.floor((width - innerWidth) / 2) : 0;
  const top = isEven ? Math.floor((height - innerHeight) / 2) : 0;
  const inner = scaled(image, innerWidth, innerHeight, spec);
  const data = new Uint8Array(width * height * 3).fill(spec.pad_value);
  for (let y = 0; y < innerHeight; y++) {
    data.set(inner.data.subarray(y * innerWidth * 3, (y + 1) * innerWidth * 3), ((top + y) * width + left) * 3);
  }
  const scale = [innerWidth / image.width, innerHeight / image.height];
  return { placed: pixels(data, width, height), placement: { scale, offset: [left, top], ...sizes(image, spec) } };
}

function stretch(image, spec) {
  const [height, width] = spec.size_hw;
  const scale = [width / image.width, height / image.height];
  return { placed: scaled(image, width, height, spec), placement: { scale, offset: [0, 0], ...sizes(image, spec) } };
}

function shorterSideCrop(image, spec) {
  const [height, width] = spec.size_hw;
  const shorter = spec.shorter_side_px || Math.min(height, width);
  const isUpright = image.width <= image.height;
  const innerWidth = isUpright ? shorter : Math.max(1, Math.trunc((shorter * image.width) / image.height));
  const innerHeight = isUpright ? Math.max(1, Math.trunc((shorter * image.height) / image.width)) : shorter;
  const left = roundHalfEven((innerWidth - width) / 2);
  const top = roundHalfEven((innerHeight - height) / 2);
  const placed = scaledPart(image, [innerWidth, innerHeight], [left, top, left + width, top + height]);
  const scale = [innerWidth / image.width, innerHeight / image.height];
  return { placed, placement: { scale, offset: [-left, -top], ...sizes(image, spec) } };
}

// Only the part that is needed is scaled, with as much around it as the smoothing reaches.
function scaledPart(image, scaledSize, part) {
  const source = [image.width, image.height];
  const [low, high, boxLow, boxHigh] = [[], [], [], []];
  for (const axis of [0, 1]) {
    const scale = scaledSize[axis] / source[axis];
    const reach = Math.ceil(Math.max(1, scale)) + 1;
    low.push(Math.max(0, part[axis] - reach));
    high.push(Math.min(scaledSize[axis], part[axis + 2] + reach));
    boxLow.push(low[axis] / scale);
    boxHigh.push(Math.min(source[axis], high[axis] / scale));
  }
  const picture = resizeSmooth(image, high[0] - low[0], high[1] - low[1], [...boxLow, ...boxHigh]);
  return cropped(picture, part[0] - low[0], part[1] - low[1], part[2] - part[0], part[3] - part[1]);
}

function cropped(image, left, top, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), y * width * 3);
  }
  return pixels(data, width, height);
}

function toTensor({ data, width, height }, spec) {
  const count = width * height;
  const tensor = new Float32Array(3 * count);
  const factor = Math.fround(spec.scale);
  for (let c = 0; c < 3; c++) {
    const from = spec.channel_order === "bgr" ? 2 - c : c;
    const [mean, std] = [Math.fround(spec.mean[c]), Math.fround(spec.std[c])];
    for (let i = 0; i < count; i++) {
      const value = Math.fround(data[i * 3 + from] * factor);
      tensor[c * count + i] = Math.fround(Math.fround(value - mean) / std);
    }
  }
  return tensor;
}
