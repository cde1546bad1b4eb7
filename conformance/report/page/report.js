"use strict";
const evidence = JSON.parse(document.getElementById("evidence").textContent);
const dialog = document.getElementById("detail");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function law(text) {  // with `code`
  const made = element("p");
  text.split("`").forEach((part, index) => made.append(index % 2 ? element("code", part) : part));
  return made;
}

function command(text) {
  const row = element("div");
  const copy = element("button", "Copy", "copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {  // a page of a file may have no clipboard: select the text instead
      getSelection().selectAllChildren(row.querySelector("pre"));
    }
  });
  row.append(element("pre", text, "command"), copy);
  return row;
}

function show(key) {
  const [requirement, column] = key.split("|");
  const { law: sentence, level, cells } = evidence.requirements[requirement];
  const cell = cells[column];
  const body = dialog.querySelector(".body");
  dialog.querySelector("h2").textContent = `${requirement} on ${evidence.columns[column]}`;
  body.replaceChildren(law(sentence), element("p", `Level: ${level}.`, "muted"));
  for (const [subject, verdict, facts, failures, commands] of cell.subjects) {
    const title = element("h3", `${subject} `);
    title.append(element("span", verdict, `verdict ${verdict}`));
    body.append(title, element("p", facts, "muted"));
    for (const failure of failures) body.append(element("pre", failure));
    if (commands.length) body.append(element("p", "Repeat a failing test:"));
    for (const each of commands) body.append(command(each));
  }
  body.append(element("p", "Judge this requirement again:"), command(cell.command));
  location.hash = `cell=${key}`;
  if (!dialog.open) dialog.showModal();
}

dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-cell]");
  if (cell) show(cell.dataset.cell);
});

// Sorting: a click on the head of a column.
function value(row, index) {
  const cell = row.cells[index];
  return cell.dataset.sort ?? cell.textContent.trim();
}
for (const head of document.querySelectorAll("th[aria-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) =>
      value(a, head.cellIndex).localeCompare(value(b, head.cellIndex), "en", { numeric: true }));
    body.append(...(down ? rows.reverse() : rows));
  });
}

// Filters: words, each of which a row must contain, and the choices beside them.
function filter(controls) {
  const table = document.getElementById(controls.dataset.filters);
  const words = controls.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...controls.querySelectorAll("select")].filter((each) => each.value);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    const kept = words.every((word) => text.includes(word)) &&
      chosen.every((each) => (row.dataset[each.name] ?? "").split(" ").includes(each.value));
    row.hidden = !kept;
    shown += kept;
  }
  controls.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length}`;
}
for (const controls of document.querySelectorAll("[data-filters]")) {
  controls.addEventListener("input", () => filter(controls));
  filter(controls);
}

// Keys: / to the filter, arrows between the cells of the matrix.
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !dialog.open) {
    event.preventDefault();
    document.querySelector("[data-filters] input").focus();
  }
  const cell = event.target.closest("#matrix td");
  if (!cell || !event.key.startsWith("Arrow")) return;
  const rows = [...document.getElementById("matrix").tBodies[0].rows].filter((row) => !row.hidden);
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const [down, right] = moves[event.key];
  const next = rows[rows.indexOf(cell.parentNode) + down]?.cells[cell.cellIndex + right];
  const button = next?.querySelector("button");
  if (button) {
    event.preventDefault();
    button.focus();
  }
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Players: one plays at a time, and a cursor shows where in the waveform.
for (const example of document.querySelectorAll(".example")) {
  const players = [...example.querySelectorAll("audio")];
  const cursor = example.querySelector(".cursor");
  const { left, right } = example.dataset;
  for (const player of players) {
    const move = () => {
      cursor.style.display = "block";
      cursor.style.left = `${100 * (+left + (right - left) * player.currentTime / player.duration)}%`;
      if (!player.paused) requestAnimationFrame(move);
    };
    player.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== player) other.pause();
      move();
    });
    player.addEventListener("seeked", move);
  }
  example.querySelector(".switch").addEventListener("click", () => {
    const now = players.findIndex((player) => !player.paused);
    const next = players[now === 0 ? 1 : 0];
    if (now >= 0) next.currentTime = players[now].currentTime;
    next.play();
  });
}

// A link to a cell opens its evidence.
const linked = decodeURIComponent(location.hash).match(/^#cell=(.+\|\d+)$/);
if (linked && evidence.requirements[linked[1].split("|")[0]]?.cells[linked[1].split("|")[1]]) show(linked[1]);
