// The list: only the rows on the screen are in the page, however many there are.
const grid = document.getElementById("grid");
const rows = document.getElementById("rows");
const headings = document.querySelector(".latent.headings");
const AROUND = 8; // rows above and below the screen
let view = []; // rows of the table that pass the filters, in their order
let chosen = -1; // a row of the table
let shownColumns = [];

function setUpColumns() {
  const arms = unique(cells.map((cell) => cell.arm));
  shownColumns = [
    { name: "latent", label: "latent", width: "3.5rem" },
    ...(arms.length > 1 ? [{ name: "cell", label: "arm", width: "minmax(5rem, 9rem)" }] : []),
    ...(unique(columns.seed).length > 1 ? [{ name: "seed", label: "seed", width: "2.5rem", number: true }] : []),
    ...(layers() ? [{ name: "layer", label: "layer", width: "2.8rem", number: true }] : []),
    { name: "firing_rate", label: "fires on", width: "4.7rem", number: true },
    ...scoreColumns(),
    { name: "explanation", label: "explanation", width: "minmax(8rem, 3fr)" },
  ];
  document.documentElement.style.setProperty("--columns", shownColumns.map((column) => column.width).join(" "));
  headings.replaceChildren(
    ...shownColumns.map((column) => {
      const button = make("button", { type: "button", title: "sort" }, column.label);
      button.addEventListener("click", () => sortBy(column.name));
      const attributes = { role: "columnheader", "data-name": column.name, class: column.number ? "number" : null };
      return make("div", { ...attributes, "aria-sort": sorted.name === column.name ? direction() : null }, button);
    }),
  );
}

// The main ones, and the one that the filters are set to.
function scoreColumns() {
  const asked = figures.filter((figure) => figure.column || figure.name === field("score").value);
  return asked.map(({ name, label, column }) => {
    const short = column || label.replace("detection: ", "");
    return { name, label: short, width: "4.6rem", number: true, score: true };
  });
}

function cellText(column, row) {
  const value = columns[column.name][row];
  if (column.score) return value === null ? NONE : fixed(100 * value, 1);
  if (column.name === "cell") return cells[value].arm;
  if (column.name === "firing_rate") return rate(value);
  if (column.name === "layer") return value === null ? NONE : String(value + 1);
  return value === null ? NONE : String(value);
}

function listRow(place) {
  const row = view[place];
  const parts = shownColumns.map((column) => {
    const value = columns[column.name][row];
    const kinds = [column.number && "number", column.score && value !== null && "score"].filter(Boolean).join(" ");
    const attributes = { role: "gridcell", "data-name": column.name, class: kinds || null };
    if (column.score && value !== null) attributes["--value"] = value;
    const text = cellText(column, row);
    if (["cell", "explanation"].includes(column.name)) attributes.title = text || null; // there may be no room for all
    const before = column.name === "explanation" ? tags(row) : [];
    return make("div", attributes, ...before, text);
  });
  const attributes = { role: "row", class: "latent", id: `row-${row}`, "aria-rowindex": place + 2 };
  const element = make("div", { ...attributes, "aria-selected": row === chosen }, ...parts);
  element.style.top = `${place * rowHeight()}px`;
  element.dataset.row = row;
  return element;
}

let heightOfRow = 0;
function rowHeight() {
  if (!heightOfRow) {
    const size = getComputedStyle(document.documentElement);
    heightOfRow = parseFloat(size.getPropertyValue("--row")) * parseFloat(size.fontSize);
  }
  return heightOfRow;
}

function draw() {
  const height = rowHeight();
  const top = rows.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / height) - AROUND);
  const last = Math.min(view.length, Math.ceil((innerHeight - top) / height) + AROUND);
  drawRows(first, last);
}

function drawRows(first, last) {
  rows.style.height = `${view.length * rowHeight()}px`;
  grid.setAttribute("aria-rowcount", view.length + 1);
  const parts = [];
  for (let place = first; place < last; place++) parts.push(listRow(place));
  rows.replaceChildren(...parts);
  const there = document.getElementById(`row-${chosen}`);
  if (there) grid.setAttribute("aria-activedescendant", there.id);
  else grid.removeAttribute("aria-activedescendant");
}

function choose(row, { reveal = false } = {}) {
  chosen = row;
  if (reveal) scrollTo_(view.indexOf(row));
  draw();
  return showDetail(row);
}

function scrollTo_(place) {
  if (place < 0) return;
  const top = rows.getBoundingClientRect().top + place * rowHeight();
  const under = headings.getBoundingClientRect().height;
  if (top < under) scrollBy(0, top - under);
  else if (top + rowHeight() > innerHeight) scrollBy(0, top + rowHeight() - innerHeight);
}

function move(step) {
  const here = view.indexOf(chosen);
  const place = Math.max(0, Math.min(view.length - 1, here < 0 ? 0 : here + step));
  if (!view.length) return;
  history.replaceState(null, "", address(view[place]));
  choose(view[place], { reveal: true });
}

function screenful() {
  const room = innerHeight - headings.getBoundingClientRect().height;
  return Math.max(1, Math.floor(room / rowHeight()) - 1);
}

const STEPS = {
  ArrowDown: () => 1,
  j: () => 1,
  ArrowUp: () => -1,
  k: () => -1,
  PageDown: () => screenful(),
  PageUp: () => -screenful(),
  Home: () => -view.length,
  End: () => view.length,
};

grid.addEventListener("keydown", (event) => {
  if (event.target.closest("button") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in STEPS) move(STEPS[event.key]());
  else if (event.key === "Enter" && chosen >= 0) openDetail();
  else return;
  event.preventDefault();
});

rows.addEventListener("click", (event) => {
  const element = event.target.closest(".latent");
  if (!element) return;
  const row = Number(element.dataset.row);
  if (address(row) === location.hash) openDetail();
  else location.hash = address(row);
});

let waiting = false;
function drawSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}
addEventListener("scroll", drawSoon, { passive: true });
addEventListener("resize", () => {
  heightOfRow = 0;
  drawSoon();
});
