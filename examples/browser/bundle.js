// A model bundle in the browser: its manifest, its ONNX file, and predictions as the server gives them.

import { postprocess } from "./postprocessing.js";
import { preprocess } from "./preprocessing.js";
import { pixels } from "./resize.js";

const RUNTIME = "./node_modules/onnxruntime-web/dist/";

/** Fetch a bundle's model.json and model.onnx, refuse a file that is not the certified one, and start the runtime. */
export async function openBundle(folder = "./bundle/") {
  if (!globalThis.crypto?.subtle) throw new Error("the model cannot be verified here: browsers allow it on https and on localhost");
  const ort = await import(`${RUNTIME}ort.wasm.bundle.min.mjs`).catch(() => {
    throw new Error(`${RUNTIME}: ONNX Runtime Web cannot be loaded; run npm ci in the folder of this page, and look whether its server runs`);
  });
  ort.env.wasm.numThreads = 1; // more need headers that plain file servers do not send
  ort.env.wasm.wasmPaths = { wasm: new URL(`${RUNTIME}ort-wasm-simd-threaded.wasm`, import.meta.url).href };
  const manifest = await (await fetched(`${folder}model.json`)).json();
  if (manifest.schema_version !== 1) throw new Error(`model.json: schema_version ${manifest.schema_version}, expected 1`);
  const file = manifest.formats.onnx;
  if (!file) throw new Error(`the bundle has no ONNX file, it has ${Object.keys(manifest.formats)}; export it with onnx`);
  const model = await (await fetched(`${folder}${file.file}`)).arrayBuffer();
  const digest = hex(await crypto.subtle.digest("SHA-256", model));
  if (digest !== file.sha256) throw new Error(`${file.file}: expected SHA-256 ${file.sha256}, got ${digest}; copy it again`);
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return new Bundle(manifest, session, ort.Tensor);
}

async function fetched(url) {
  const response = await fetch(url).catch(() => {
    throw new Error(`${url}: the server cannot be reached; is it still running?`);
  });
  if (!response.ok) throw new Error(`${url}: status ${response.status}; copy the bundle into the folder bundle/`);
  return response;
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

class Bundle {
  constructor(manifest, session, Tensor) {
    Object.assign(this, { manifest, session, Tensor });
  }

  /**
   * @param image {data, width, height}, RGB bytes; see `decode`.
   * @param options {confidence, topK}; what is left out is the bundle's own.
   * @returns {width, height, boxes}, with masks and keypoints where the model gives some, or
   *   {width, height, class, class_id, confidence, top}: as the server's JSON.
   */
  async predict(image, options = {}) {
    const { preprocessing, postprocessing, classes } = this.manifest;
    const { tensor, placement } = preprocess(image, preprocessing);
    const batch = new this.Tensor("float32", tensor, [1, 3, ...preprocessing.size_hw]);
    const answer = await this.session.run({ [this.session.inputNames[0]]: batch });
    // Bundles of before name their one output `output`.
    const outputs = (this.manifest.outputs ?? [this.manifest.output]).map(({ name }) => answer[name]);
    return { width: image.width, height: image.height, ...postprocess(outputs, placement, postprocessing, classes, options) };
  }
}

/** Decode an image file as a person sees it: upright, transparency over white, colours as stored. */
export async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error("this browser cannot decode the file; try JPEG, PNG or WebP");
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    rgb[i * 3] = data[i * 4];
    rgb[i * 3 + 1] = data[i * 4 + 1];
    rgb[i * 3 + 2] = data[i * 4 + 2];
  }
  return pixels(rgb, width, height);
}
