// Filters and sorting of the list, links to latents, and keys of the whole page.
const filters = document.getElementById("filters");
const field = (name) => filters.elements[name];
let order = []; // all rows of the table, sorted
let sorted = { name: "", down: false };
let searched = []; // what the search looks through, in lower case

function setUpFilters() {
  const count = columns.latent.length;
  order = Array.from({ length: count }, (_, row) => row);
  searched = order.map((row) => `${columns.latent[row]} ${columns.explanation[row]}`.toLowerCase());
  options("arm", unique(cells.map((cell) => cell.arm)).map((arm) => [arm, arm]));
  options("seed", unique(columns.seed).map((seed) => [seed, seed]));
  options("layer", unique(columns.layer).sort((a, b) => a - b).map((layer) => [layer, layer + 1]));
  options("score", figures.filter((one) => one.unit === "%").map((one) => [one.name, one.label]));
  for (const name of ["arm", "seed", "layer"]) field(name).closest("label").hidden = field(name).options.length < 3;
  field("score").closest("fieldset").hidden = !field("score").options.length;
  document.getElementById("more").open = !narrow.matches;
}

const unique = (values) => [...new Set(values)].filter((value) => value !== null);

function options(name, pairs) {
  field(name).append(...pairs.map(([value, text]) => make("option", { value }, String(text))));
}

function limit(name, otherwise) {
  const value = field(name).valueAsNumber;
  return Number.isNaN(value) ? otherwise : value / 100;
}

// One function per filter that is in use: whether a row passes it.
function tests() {
  const found = [];
  const text = field("text").value.trim().toLowerCase();
  if (text) found.push((row) => searched[row].includes(text));
  const [arm, seed, layer, state] = ["arm", "seed", "layer", "state"].map((name) => field(name).value);
  if (arm) found.push((row) => cells[columns.cell[row]].arm === arm);
  if (seed) found.push((row) => String(cells[columns.cell[row]].seed) === seed);
  if (layer) found.push((row) => String(columns.layer[row]) === layer);
  if (state === "scored") found.push((row) => !columns.dead[row] && !columns.unscored[row]);
  else if (state) found.push((row) => columns[state][row]);
  between(found, columns.firing_rate, limit("rate_low", null), limit("rate_high", null));
  between(found, columns[field("score").value], limit("score_low", null), limit("score_high", null));
  return found;
}

function between(found, values, low, high) {
  if (low !== null) found.push((row) => values[row] !== null && values[row] >= low);
  if (high !== null) found.push((row) => values[row] !== null && values[row] <= high);
}

function applyFilters() {
  const passed = tests();
  view = order.filter((row) => passed.every((test) => test(row)));
  document.getElementById("summary").textContent = summary();
  draw();
}

// How many, and their mean detection as the report counts it: at chance where a latent has no score.
function summary() {
  const all = columns.latent.length;
  const some = `${view.length.toLocaleString("en")} of ${all.toLocaleString("en")} latents`;
  if (!view.length) return `${some}: no latent passes these filters`;
  const share = (name) => percent(view.filter((row) => columns[name][row]).length / view.length);
  const parts = [some, `${share("dead")} dead`, `${share("dense")} dense`];
  if (columns.detection) {
    const mean = view.reduce((sum, row) => sum + (columns.detection[row] ?? 0.5), 0) / view.length;
    parts.push(`detection ${percent(mean)} (no score: 50\u00a0%)`);
  }
  return parts.join(" · ");
}

const direction = () => (sorted.down ? "descending" : "ascending");

function sortBy(name) {
  const words_ = name === "explanation";
  const first = ["latent", "cell", "seed", "explanation"].includes(name) ? "ascending" : "descending";
  const down = sorted.name === name ? !sorted.down : first === "descending";
  sorted = { name, down };
  const values = words_ ? columns.explanation.map((text) => text.toLowerCase() || null) : columns[name];
  const known = order.filter((row) => values[row] !== null);
  const unknown = order.filter((row) => values[row] === null).sort((a, b) => a - b); // last in both directions
  const sign = down ? -1 : 1;
  known.sort((a, b) => (values[a] === values[b] ? a - b : values[a] < values[b] ? -sign : sign));
  order = [...known, ...unknown];
  for (const heading of headings.children) {
    if (heading.dataset.name === name) heading.setAttribute("aria-sort", direction());
    else heading.removeAttribute("aria-sort");
  }
  applyFilters();
}

const narrow = matchMedia("(max-width: 62rem)");

function openDetail() {
  document.body.classList.add("reading");
  detail.focus({ preventScroll: true });
}

function closeDetail() {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  document.body.classList.remove("reading");
  grid.focus({ preventScroll: true });
}

async function follow() {
  const row = rowAt(location.hash);
  if (row < 0) return closeDetail();
  if (!view.includes(row)) {
    filters.reset(); // a link to a latent that the filters hide
    applyFilters();
  }
  await choose(row, { reveal: true });
  if (narrow.matches) openDetail();
}

filters.addEventListener("input", (event) => {
  if (event.target === field("score")) setUpColumns();
  applyFilters();
});
filters.addEventListener("reset", () =>
  setTimeout(() => {
    setUpColumns();
    applyFilters();
  }),
);
filters.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("reading")) closeDetail();
  else if (event.key === "/" && !event.target.closest("input, select")) {
    event.preventDefault();
    field("text").focus();
  }
});

// Paper has the first rows, and the chosen latent.
const MOST_ON_PAPER = 200;
addEventListener("beforeprint", () => drawRows(0, Math.min(view.length, MOST_ON_PAPER)));
addEventListener("afterprint", draw);

readIndex().then(() => {
  setUpFilters();
  setUpColumns();
  applyFilters();
  performance.mark("list");
  if (location.hash.includes("/")) follow();
  else if (!narrow.matches && view.length) choose(view.find((row) => columns.explanation[row]) ?? view[0]);
});
