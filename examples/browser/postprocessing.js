// From raw output to boxes or classes, as the bundle's `postprocessing` says: the same as visionyard/transforms.

import { maskFromPrototypes } from "./masks.js";
import { pointToSource, toSource } from "./preprocessing.js";

const MAX_CANDIDATES = 30000;
const YOLOX_STRIDES = [8, 16, 32];

const fromCentre = (x, y, width, height) => [x - width / 2, y - height / 2, x + width / 2, y + height / 2];

function best(count, score) {
  let found = 0;
  for (let k = 1; k < count; k++) if (score(k) > score(found)) found = k;
  return [found, score(found)];
}

// The yolo layout with so many values behind the scores of a candidate; `extra` gives them.
function yolo({ data, dims }, extraCount) {
  const [, rows, count] = dims;
  return {
    count,
    score: (a) => best(rows - 4 - extraCount, (k) => data[(4 + k) * count + a]),
    box: (a) => fromCentre(data[a], data[count + a], data[2 * count + a], data[3 * count + a]),
    extra: (a) => Array.from({ length: extraCount }, (_, k) => data[(rows - extraCount + k) * count + a]),
  };
}

// Each layout: how many candidates, the class and confidence of one, and its box in input pixels; where there are some,
// also its mask, for its box in the source image, and its keypoints, x and y in input pixels and confidence.
const LAYOUTS = {
  yolo: ([output]) => yolo(output, 0),
  yolo_seg: ([output, prototypes]) => {
    const layout = yolo(output, prototypes.dims[1]);
    return { ...layout, mask: (a, xyxy, placement) => maskFromPrototypes(prototypes, layout.extra(a), xyxy, placement) };
  },
  yolo_pose: ([output], _, { keypoint_count: count }) => {
    const layout = yolo(output, 3 * count);
    const points = (values) => Array.from({ length: count }, (_, k) => values.slice(3 * k, 3 * k + 3));
    return { ...layout, keypoints: (a) => points(layout.extra(a)) };
  },
  end2end: ([{ data, dims }]) => ({
    count: dims[1],
    isSuppressed: true,
    score: (a) => [Math.round(data[a * 6 + 5]), data[a * 6 + 4]],
    box: (a) => Array.from(data.subarray(a * 6, a * 6 + 4)),
  }),
  yolov5: ([{ data, dims }]) => {
    const [, count, width] = dims;
    return {
      count,
      score: (a) => {
        const [classId, score] = best(width - 5, (k) => data[a * width + 5 + k]);
        return [classId, Math.fround(data[a * width + 4] * score)];
      },
      box: (a) => fromCentre(...data.subarray(a * width, a * width + 4)),
    };
  },
  yolox: (outputs, [inputWidth, inputHeight]) => {
    const { data, dims } = outputs[0];
    const cells = [];
    for (const stride of YOLOX_STRIDES) {
      for (let y = 0; y < Math.floor(inputHeight / stride); y++) {
        for (let x = 0; x < Math.floor(inputWidth / stride); x++) cells.push([x, y, stride]);
      }
    }
    if (cells.length !== dims[1]) throw new Error(`layout yolox: ${cells.length} cells, but ${dims[1]} rows`);
    return {
      ...LAYOUTS.yolov5(outputs),
      box: (a) => {
        const [x, y, width, height] = data.subarray(a * dims[2], a * dims[2] + 4);
        const [column, row, stride] = cells[a];
        const side = (value) => Math.exp(Math.min(value, 20)) * stride;
        return fromCentre((x + column) * stride, (y + row) * stride, side(width), side(height));
      },
    };
  },
  ssd: ([scores, boxes], [inputWidth, inputHeight]) => {
    const [, count, width] = scores.dims;
    return {
      count,
      score: (a) => best(width - 1, (k) => scores.data[a * width + 1 + k]),
      box: (a) => Array.from(boxes.data.subarray(a * 4, a * 4 + 4), (value, i) => value * (i % 2 ? inputHeight : inputWidth)),
    };
  },
};

/**
 * @param outputs Tensors {data, dims} of one image, in the order of model.json.
 * @param placement Of `preprocess`.
 * @param spec `postprocessing` of model.json.
 * @param classes Class names.
 * @returns {boxes: [{class, class_id, confidence, xyxy, mask?, keypoints?}]} or {class, class_id, confidence, top}: as the server's JSON.
 */
export function postprocess(outputs, placement, spec, classes, { confidence, topK = 5 } = {}) {
  if (spec.kind === "classification") return classify(outputs[0].data, spec, classes, topK);
  if (!LAYOUTS[spec.layout]) throw new Error(`postprocessing.layout ${spec.layout}: this page knows ${Object.keys(LAYOUTS)}`);
  const layout = LAYOUTS[spec.layout](outputs, placement.input, spec);
  return detect(layout, placement, spec, classes, confidence ?? spec.confidence_threshold);
}

function classify(scores, spec, classes, topK) {
  let probabilities = Float32Array.from(scores);
  if (spec.activation === "softmax") {
    const highest = probabilities.reduce((one, other) => Math.max(one, other));
    const powers = probabilities.map((score) => Math.exp(score - highest));
    const sum = powers.reduce((total, one) => total + one, 0);
    probabilities = powers.map((power) => power / sum);
  }
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const top = order.slice(0, topK).map((id) => ({ class: classes[id], class_id: id, confidence: probabilities[id] }));
  return { ...top[0], top };
}

function detect(layout, placement, spec, classes, threshold) {
  let found = [];
  for (let a = 0; a < layout.count; a++) {
    const [classId, confidence] = layout.score(a);
    if (confidence >= threshold) found.push({ a, classId, confidence });
  }
  found.sort((one, other) => other.confidence - one.confidence || one.a - other.a);
  found = found.slice(0, layout.isSuppressed ? spec.max_detections : MAX_CANDIDATES);
  for (const one of found) one.box = layout.box(one.a);
  const kept = layout.isSuppressed ? found : suppress(found, spec.iou_threshold, spec.max_detections);
  const boxes = kept.map(({ a, box, classId, confidence }) => {
    const xyxy = toSource(box, placement);
    const one = { class: classes[classId], class_id: classId, confidence, xyxy };
    if (layout.mask) one.mask = { rle: layout.mask(a, xyxy, placement) };
    if (layout.keypoints) one.keypoints = layout.keypoints(a).map(([x, y, sure]) => [...pointToSource([x, y], placement), sure]);
    return one;
  });
  return { boxes };
}

const area = ([left, top, right, bottom]) => Math.max(0, right - left) * Math.max(0, bottom - top);

/** Keep the most confident box of each group of overlapping ones of a class; `found` is sorted by confidence. */
function suppress(found, iouThreshold, maxCount) {
  const kept = [];
  for (const one of found) {
    if (kept.length === maxCount) break;
    const isCovered = kept.some((other) => {
      if (other.classId !== one.classId) return false;
      const [a, b] = [one.box, other.box];
      const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
      return shared > iouThreshold * (area(a) + area(b) - shared);
    });
    if (!isCovered) kept.push(one);
  }
  return kept;
}
