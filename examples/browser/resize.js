// Scaling of RGB pixels, to the very levels that the Python preprocessing gives: OpenCV's INTER_LINEAR and Pillow's
// BILINEAR, in their integer arithmetic. A canvas scales otherwise in each browser, and a model sees the difference.

/** Pixels: `data` is width * height * 3 bytes, RGB, row after row. */
export function pixels(data, width, height) {
  return { data, width, height };
}

/** Scale as OpenCV's INTER_LINEAR: without smoothing, 11-bit weights; exactly half the size is the mean of four. */
export function resizeLinear(image, width, height) {
  if (image.width === width && image.height === height) return image;
  if (image.width === 2 * width && image.height === 2 * height) return halve(image, width, height);
  const columns = linearTaps(image.width, width);
  const rows = linearTaps(image.height, height);
  const out = new Uint8Array(width * height * 3);
  const line = (y) => {
    const sums = new Int32Array(width * 3);
    const row = y * image.width * 3;
    for (let x = 0; x < width; x++) {
      const [low, high, lowWeight, highWeight] = columns[x];
      for (let c = 0; c < 3; c++) {
        sums[x * 3 + c] = image.data[row + low * 3 + c] * lowWeight + image.data[row + high * 3 + c] * highWeight;
      }
    }
    return sums;
  };
  const lines = new Map();
  for (let y = 0; y < height; y++) {
    const [low, high, lowWeight, highWeight] = rows[y];
    for (const known of lines.keys()) if (known < low) lines.delete(known);
    for (const needed of [low, high]) if (!lines.has(needed)) lines.set(needed, line(needed));
    const [above, below] = [lines.get(low), lines.get(high)];
    for (let i = 0; i < width * 3; i++) {
      out[y * width * 3 + i] = (((lowWeight * (above[i] >> 4)) >> 16) + ((highWeight * (below[i] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return pixels(out, width, height);
}

function halve(image, width, height) {
  const out = new Uint8Array(width * height * 3);
  const { data } = image;
  const step = image.width * 3;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const at = 2 * y * step + 2 * x * 3 + c;
        out[(y * width + x) * 3 + c] = (data[at] + data[at + 3] + data[at + step] + data[at + step + 3] + 2) >> 2;
      }
    }
  }
  return pixels(out, width, height);
}

function linearTaps(source, target) {
  const scale = 1 / (target / source);
  return Array.from({ length: target }, (_, place) => {
    let offset = Math.fround((place + 0.5) * scale - 0.5);
    let low = Math.floor(offset);
    offset = Math.fround(offset - low);
    if (low < 0) [low, offset] = [0, 0];
    if (low >= source - 1) [low, offset] = [source - 1, 0];
    const weight = (part) => roundHalfEven(Math.fround(part * 2048));
    return [low, Math.min(low + 1, source - 1), weight(Math.fround(1 - offset)), weight(offset)];
  });
}

/** Scale a part as Pillow's BILINEAR: smoothed when it shrinks; `box` is left, top, right, bottom in the image. */
export function resizeSmooth(image, width, height, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const isWhole = left === 0 && top === 0 && right === image.width && bottom === image.height;
  if (isWhole && image.width === width && image.height === height) return image;
  const areRowsScaled = width !== image.width || left !== 0 || right !== width;
  const areColumnsScaled = height !== image.height || top !== 0 || bottom !== height;
  const rows = (one) => (areRowsScaled ? smoothRows(one, smoothTaps(image.width, left, right, width), width) : one);
  const columns = (one) => (areColumnsScaled ? smoothColumns(one, smoothTaps(image.height, top, bottom, height), height) : one);
  // Each pass rounds to whole levels, so their order shows. This is Pillow 13's choice, found by trying 500 sizes; older
  // ones always begin with the rows, which changes a level here and there.
  const [fewerRows, fewerColumns] = [image.height - height, image.width - width];
  const isColumnsFirst = fewerRows > 0 && fewerRows > 2 * fewerColumns;
  return isColumnsFirst ? rows(columns(image)) : columns(rows(image));
}

const PRECISION = 2 ** 22; // Pillow's PRECISION_BITS for 8-bit pixels

function smoothTaps(source, from, to, target) {
  const scale = Math.fround(to - from) / target;
  const stretch = Math.max(1, scale);
  return Array.from({ length: target }, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - stretch + 0.5));
    const high = Math.min(source, Math.trunc(centre + stretch + 0.5));
    const weights = [];
    for (let x = low; x < high; x++) weights.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) * (1 / stretch))));
    const sum = weights.reduce((total, one) => total + one, 0);
    return { low, weights: weights.map((one) => Math.trunc(0.5 + (sum ? one / sum : one) * PRECISION)) };
  });
}

const level = (sum) => Math.max(0, Math.min(255, Math.floor(sum / PRECISION)));

function smoothRows(image, taps, width) {
  const out = new Uint8Array(width * image.height * 3);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const { low, weights } = taps[x];
      for (let c = 0; c < 3; c++) {
        let sum = PRECISION / 2;
        let at = (y * image.width + low) * 3 + c;
        for (const weight of weights) {
          sum += image.data[at] * weight;
          at += 3;
        }
        out[(y * width + x) * 3 + c] = level(sum);
      }
    }
  }
  return pixels(out, width, image.height);
}

function smoothColumns(image, taps, height) {
  const step = image.width * 3;
  const out = new Uint8Array(step * height);
  for (let y = 0; y < height; y++) {
    const { low, weights } = taps[y];
    for (let i = 0; i < step; i++) {
      let sum = PRECISION / 2;
      let at = low * step + i;
      for (const weight of weights) {
        sum += image.data[at] * weight;
        at += step;
      }
      out[y * step + i] = level(sum);
    }
  }
  return pixels(out, image.width, height);
}

/** Round as Python and C do: a half goes to the even neighbour. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}
