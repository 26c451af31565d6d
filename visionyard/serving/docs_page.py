"""The page `/docs`: shows `/openapi.json` without a script, style or font from elsewhere.

FastAPI's own page loads Swagger UI from a CDN, which neither an air-gapped cluster nor a strict policy allows.
"""

DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API - Visionyard</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --strong: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
p { margin: .3rem 0; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; display: flex; gap: .8rem; align-items: baseline; flex-wrap: wrap; }
summary:focus-visible { outline: 2px solid var(--strong); }
.method { font: 600 13px ui-monospace, monospace; min-width: 3.2rem; color: var(--strong); }
.body { padding: .2rem .8rem .8rem; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; }
code, td, h3 { overflow-wrap: anywhere; } code { min-width: 0; }
th { font-weight: 600; } pre { background: var(--soft); padding: .6rem; overflow-x: auto; border-radius: 4px; }
.quiet { opacity: .75; } #error { color: #b91c1c; }
input { font: inherit; padding: .3rem .5rem; } button { font: inherit; padding: .3rem .9rem; }
</style>
</head>
<body>
<main>
<h1 id="title">API</h1>
<p id="about" class="quiet">Loading ...</p>
<p class="quiet">The document itself: <a href="openapi.json">openapi.json</a></p>
<form id="key" hidden>
<label>API key <input id="value" type="password" autocomplete="off"></label> <button>Show</button>
</form>
<p id="error" role="alert"></p>
<div id="routes"></div>
</main>
<script>
"use strict";
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const row = (cells, tag) => {
  const line = make("tr");
  for (const cell of cells) line.append(make(tag || "td", cell));
  return line;
};
const table = (heads, rows) => {
  const node = make("table");
  node.append(row(heads, "th"), ...rows.map((cells) => row(cells)));
  return node;
};
const route = (method, path, operation) => {
  const node = make("details");
  const head = make("summary");
  head.append(make("span", method.toUpperCase(), "method"), make("code", path));
  head.append(make("span", (operation.description || operation.summary || "").split("\\n")[0], "quiet"));
  const body = make("div", undefined, "body");
  const parameters = operation.parameters || [];
  if (parameters.length) {
    body.append(make("h3", "Parameters"), table(["Name", "Where", "Type", ""], parameters.map((each) =>
      [each.name, each.in, (each.schema || {}).type || "", each.description || ""])));
  }
  const content = (operation.requestBody || {}).content || {};
  for (const [kind, form] of Object.entries(content)) {
    body.append(make("h3", "Body: " + kind));
    if (!(form.schema || {}).format) body.append(make("pre", JSON.stringify(form.schema, null, 1)));
  }
  body.append(make("h3", "Answers"), table(["Status", ""], Object.entries(operation.responses || {}).map(
    ([status, answer]) => [status, answer.description || ""])));
  node.append(head, body);
  return node;
};
const show = (description) => {
  document.getElementById("title").textContent = description.info.title + " " + description.info.version;
  document.getElementById("about").textContent = description.info.description || "";
  const groups = new Map();
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const group = (operation.tags || ["Other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(route(method, path, operation));
    }
  }
  const place = document.getElementById("routes");
  place.replaceChildren();
  for (const [group, nodes] of groups) place.append(make("h2", group), ...nodes);
};
const load = async (key) => {
  const error = document.getElementById("error");
  error.textContent = "";
  try {
    const answer = await fetch("openapi.json", key ? { headers: { "X-API-Key": key } } : {});
    if (answer.status === 401) {
      document.getElementById("key").hidden = false;
      document.getElementById("about").textContent = "This server asks for a key.";
      return;
    }
    if (!answer.ok) throw new Error("status " + answer.status);
    document.getElementById("key").hidden = true;
    show(await answer.json());
  } catch (problem) {
    error.textContent = "openapi.json cannot be loaded: " + problem.message;
  }
};
document.getElementById("key").addEventListener("submit", (event) => {
  event.preventDefault();
  load(document.getElementById("value").value);
});
load("");
</script>
</body>
</html>
"""
