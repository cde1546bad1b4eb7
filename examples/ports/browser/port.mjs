// Connects the suite with a web page in headless Chromium: requests and answers pass over HTTP.
//
// `node port.mjs BUG` plants one bug in the page: positions-from-zero, states-not-transposed,
// penalty-per-occurrence, crossing-id-dropped.

import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const types = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const [waiting, pages] = [[], []]; // lines without a page, pages without a line
let model, browser;

function give(line) {
  if (pages.length) pages.shift().end(line);
  else waiting.push(line);
}

function fileOf(path) {
  if (path.startsWith("/model/")) return join(model, path.slice(7));
  if (path.startsWith("/ort/")) return join(here, "node_modules/onnxruntime-web/dist", path.slice(5));
  return path === "/stages.mjs" ? join(here, "../node/stages.mjs") : join(here, path);
}

const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(request.url.split("?")[0]));
  if (path === "/next") {
    if (waiting.length) response.end(waiting.shift());
    else pages.push(response);
  } else if (path === "/answer") {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      process.stdout.write(`${Buffer.concat(parts)}\n`);
      response.end();
    });
  } else if (existsSync(fileOf(path))) {
    response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream");
    createReadStream(fileOf(path)).pipe(response);
  } else {
    response.writeHead(404).end();
  }
});
server.keepAliveTimeout = 0;

const profile = mkdtempSync(join(tmpdir(), "soprano-port-"));
function openPage() {
  const { port } = server.address();
  const url = `http://127.0.0.1:${port}/page.html?bug=${process.argv[2] ?? ""}`;
  const options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"];
  options.push("--disable-background-networking", "--disable-component-update");
  browser = spawn(process.env.CHROMIUM ?? "chromium", [...options, `--user-data-dir=${profile}`, url], {
    stdio: ["ignore", "ignore", "inherit"],
    detached: true,
  });
  browser.on("error", (error) => stop(`Chromium cannot be started: ${error.message}`));
  browser.on("exit", (status) => stop(`Chromium ended with status ${status}`));
}

let stopped = false;
function stop(reason) {
  if (stopped) return;
  stopped = true;
  if (reason) console.error(reason);
  try {
    process.kill(-browser.pid); // and the processes of its pages
  } catch {
    // It has ended.
  }
  setTimeout(() => {
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
    process.exit(reason ? 1 : 0);
  }, 200);
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { method, params } = JSON.parse(line);
    if (method === "hello") {
      model = params.model;
      server.listen(0, "127.0.0.1", openPage);
    }
    if (method !== "cancel") give(line);
  })
  .on("close", () => stop());
