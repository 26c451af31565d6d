// Masks of objects: from prototypes, as visionyard/transforms/prototype_masks.py makes them, pixel for pixel in the
// source image; and COCO's run lengths. Pixels are counted column by column from the top left.

// What is not a number is outside; infinity stays a number, so that a line can be drawn through it.
const LARGEST = 1e30;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const tame = (value) => (Number.isNaN(value) ? -1 : Number.isFinite(value) ? value : Math.sign(value) * LARGEST);

/**
 * The mask of an object: a pixel is inside where the weighted sum of the prototypes, bilinearly interpolated at its
 * centre, is above 0, and the box touches it. Between two rows of the prototypes the sum is a line, so the row where it
 * crosses 0 is known.
 *
 * @param prototypes {data, dims: [1, M, h, w]}, covering the model's input.
 * @param weights M coefficients of the object.
 * @param box Left, top, right, bottom in pixels of the source image, within it.
 * @param placement Of `preprocess`.
 * @returns {size: [height, width], counts}, as COCO's compressed run lengths.
 */
export function maskFromPrototypes(prototypes, weights, box, placement) {
  const [width, height] = placement.source;
  const toMask = (edges) => ({ size: [height, width], counts: toCounts(edges, width * height) });
  const [left, top, right, bottom] = [Math.floor(box[0]), Math.floor(box[1]), Math.ceil(box[2]), Math.ceil(box[3])];
  if (!box.every(Number.isFinite) || right <= left || bottom <= top) return toMask([]);
  const [, , rows, cells] = prototypes.dims;
  const [slopeX, startX] = cellsOf(placement, 0, cells);
  const [slopeY, startY] = cellsOf(placement, 1, rows);
  // Only the rows that the box lies between.
  const [first, last] = [top, bottom].map((row) => clamp(Math.floor(row * slopeY + startY), 0, rows - 1));
  const end = Math.min(last + 2, rows);
  const sums = weightedSums(prototypes, weights, first, end);

  const edges = [];
  for (let column = left; column < right; column++) {
    const place = clamp(column * slopeX + startX, 0, cells - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, cells - 1);
    const share = place - low;
    const value = (row) => sums(row, low) * (1 - share) + sums(row, high) * share;
    let above = value(first);
    const turns = above > 0 ? [top] : [];
    for (let row = first; row + 1 < end; row++) {
      const below = value(row + 1);
      if (above > 0 !== below > 0) {
        const crossing = (row + above / (above - below) - startY) / slopeY;
        // At 0 itself a pixel is outside: an object begins beyond the crossing, and ends at it.
        turns.push(clamp(below > 0 ? Math.floor(crossing) + 1 : Math.ceil(crossing), top, bottom));
      }
      above = below;
    }
    if (above > 0) turns.push(bottom);
    for (const turn of turns) edges.push(column * height + turn);
  }
  return toMask(withoutPairs(edges));
}

/** How a source pixel's number becomes a place among the cells of an axis: number * slope + start. */
function cellsOf({ scale, offset, input }, axis, count) {
  const perPixel = count / input[axis];
  return [scale[axis] * perPixel, (0.5 * scale[axis] + offset[axis]) * perPixel - 0.5];
}

/** A function from a row, of those from first to end, and a cell to the weighted sum there; each is made once. */
function weightedSums({ data, dims: [, , rows, cells] }, weights, first, end) {
  const known = new Float32Array((end - first) * cells);
  const isKnown = new Uint8Array(known.length);
  return (row, cell) => {
    const at = (row - first) * cells + cell;
    if (!isKnown[at]) {
      let sum = 0;
      for (let m = 0; m < weights.length; m++) sum += weights[m] * data[(m * rows + row) * cells + cell];
      known[at] = tame(Math.fround(sum));
      isKnown[at] = 1;
    }
    return known[at];
  };
}

/** Edges in ascending order, without those between which nothing lies: two turns at one pixel are none. */
function withoutPairs(edges) {
  const left = [];
  for (const edge of edges.sort((one, other) => one - other)) {
    if (left[left.length - 1] === edge) left.pop();
    else left.push(edge);
  }
  return left;
}

/** COCO's compressed text: five bits a character, from the fourth run on the difference to the last but one. */
function toCounts(edges, total) {
  const places = [0, ...edges.filter((edge) => edge < total), total];
  const runs = places.slice(1).map((place, number) => place - places[number]);
  if (runs.length > 1 && runs[runs.length - 1] === 0) runs.pop();
  let text = "";
  runs.forEach((run, number) => {
    let value = number > 2 ? run - runs[number - 2] : run;
    for (let hasMore = true; hasMore;) {
      const bits = value & 31;
      value >>= 5;
      hasMore = bits & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode(48 + bits + (hasMore ? 32 : 0));
    }
  });
  return text;
}

/** Call `fill(column, top, bottom)` for each stretch of pixels inside a mask. */
export function forEachStretch({ size: [height], counts }, fill) {
  let place = 0;
  runsOf(counts).forEach((run, number) => {
    const end = place + run;
    while (number % 2 && place < end) {
      const [column, row] = [Math.floor(place / height), place % height];
      const length = Math.min(end - place, height - row);
      fill(column, row, row + length);
      place += length;
    }
    place = end;
  });
}

function runsOf(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let [value, shift, code] = [0, 0, 32];
    while (code & 32) {
      code = counts.charCodeAt(at++) - 48;
      value += (code & 31) * 2 ** shift;
      shift += 5;
    }
    if (code & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
