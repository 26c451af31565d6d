// Keeps every file of the page, so that it works without network once it was loaded.

const CACHE = "visionyard-browser-1";
const FILES = [
  "./", "./app.js", "./bundle.js", "./drawing.js", "./masks.js", "./postprocessing.js", "./preprocessing.js",
  "./resize.js",
  "./bundle/model.json", "./bundle/model.onnx",
  "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  "./node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});
addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The network first, so that a new bundle is taken up; what was kept when there is none.
async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

addEventListener("fetch", (event) => {
  const isOwn = new URL(event.request.url).origin === location.origin;
  if (isOwn && event.request.method === "GET") event.respondWith(answer(event.request));
});
