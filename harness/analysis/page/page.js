"use strict";

// Sorting: each heading becomes a button; tables are whole and in their own order without it.
function key(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent.trim() : Number(value);
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return typeof a === "number" ? -1 : 1;
}

function sort(table, heading, column) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  const known = rows.filter(([value]) => value !== "–");
  known.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
  const unknown = rows.filter(([value]) => value === "–"); // last in both directions
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(table, heading, column));
    heading.replaceChildren(button);
  });
}

// A link into a folded table opens it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  for (const found of document.querySelectorAll(".found")) found.classList.remove("found");
  if (target.tagName === "TR") target.classList.add("found");
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
}

window.addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) reveal(); // no hashchange: it has been followed before
});
reveal();

// Paper has no folds.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const fold of folded) fold.open = true;
});
window.addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
