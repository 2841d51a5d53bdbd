// The chosen latent: explanation, scores, figures, histogram, logits and windows.
const SILENT = { 1: "random windows", 2: "with its peak token", 3: "similar text", 4: "where its neighbour fires" };
const detail = document.getElementById("detail");
let shownRow = -1;

async function showDetail(row) {
  shownRow = row;
  const examples = await examplesOf(row);
  if (row !== shownRow) return; // another one was chosen in the meantime
  const cell = cells[columns.cell[row]];
  const layer = columns.layer[row] === null ? "" : `, layer ${columns.layer[row] + 1}`;
  const close = make("button", { type: "button", class: "close" }, "← all latents");
  close.addEventListener("click", closeDetail);
  detail.replaceChildren(
    close,
    make("h2", {}, `Latent ${columns.latent[row]}`),
    make("p", { class: "facts" }, `${cell.name}${layers() ? layer : ""} `, ...tags(row)),
    explanation(row),
    scores(row),
    ...windows(row, examples.windows.filter(([kind]) => kind === 0)),
    make("h3", {}, "Figures"),
    facts(row),
    ...histogram(examples.histogram, columns.max_activation[row]),
    ...logits("Raises the logits of", examples.logits_up),
    ...logits("Lowers the logits of", examples.logits_down),
    ...windows(row, examples.windows.filter(([kind]) => kind > 0)),
  );
  detail.scrollTop = 0;
  detail.dataset.row = row;
}

const layers = () => columns.layer.some((layer) => layer > 0);

function explanation(row) {
  if (columns.explanation[row]) return make("blockquote", {}, columns.explanation[row]);
  if (columns.dead[row]) return make("p", {}, "It fires on no token of the text.");
  return make("p", {}, "It fires too rarely to be explained and judged.");
}

function scores(row) {
  const body = make("tbody");
  for (const figure of figures.filter((one) => one.chance !== null)) {
    const value = columns[figure.name][row];
    if (value === null) continue;
    const meter = make("div", { "--value": value, "--chance": figure.chance });
    const title = `chance: ${percent(figure.chance, 0)}`;
    body.append(
      make(
        "tr",
        {},
        make("th", { scope: "row" }, figure.label),
        make("td", { class: "meter", title }, meter),
        make("td", {}, percent(value)),
      ),
    );
  }
  return body.children.length ? make("table", { id: "scores" }, make("caption", {}, "Scores"), body) : "";
}

function facts(row) {
  const lines = [["fires on", `${rate(columns.firing_rate[row])} of tokens`]];
  if (columns.max_activation[row]) lines.push(["highest activation", fixed(columns.max_activation[row], 2)]);
  if (columns.neighbour[row] !== null) lines.push(["fires most like", neighbour(row)]);
  for (const figure of figures.filter((one) => one.chance === null)) {
    const value = columns[figure.name][row];
    if (value !== null) lines.push([figure.label, shownFigure(figure, value)]);
  }
  const body = lines.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  return make("table", { id: "facts" }, make("caption", {}, "Figures"), make("tbody", {}, ...body));
}

function neighbour(row) {
  const latent = columns.neighbour[row];
  const there = rowOf(cells[columns.cell[row]], latent);
  const text = `latent ${latent}`;
  const name = there < 0 ? `${text} (not in the sample)` : make("a", { href: address(there) }, text);
  const shared = columns.neighbour_jaccard[row];
  return make("span", {}, name, shared === null ? "" : `: shares ${percent(shared, 0)} of their tokens`);
}

function histogram(counts, highest) {
  if (!counts?.some((count) => count)) return [];
  const [width, height, left, bottom] = [420, 110, 4, 18];
  const most = Math.max(...counts);
  const step = (width - 2 * left) / counts.length;
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img" });
  picture.setAttribute("aria-label", `Histogram of its activations, from 0 to ${fixed(highest, 2)}`);
  counts.forEach((count, place) => {
    const tall = (count / most) * (height - bottom - 14);
    const box = { x: left + place * step + 1, y: height - bottom - tall, width: step - 2, height: tall };
    picture.append(drawn("rect", box, drawn("title", {}, `${count} tokens`)));
  });
  picture.append(
    drawn("line", { x1: left, x2: width - left, y1: height - bottom, y2: height - bottom }),
    drawn("text", { x: left, y: height - 4 }, "0"),
    drawn("text", { x: width - left, y: height - 4, "text-anchor": "end" }, fixed(highest, 2)),
    drawn("text", { x: width - left, y: 10, "text-anchor": "end" }, `at most ${most} tokens in a bin`),
  );
  return [make("h3", {}, "Activations where it fires"), picture];
}

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function logits(title, tokens) {
  if (!tokens?.length) return [];
  const items = tokens.map((token) => make("li", {}, ...tokenParts(words[token])));
  return [make("h3", {}, title), make("ul", { class: "words" }, ...items)];
}

function windows(row, examples) {
  const parts = [];
  let heading = "";
  const quantiles = Math.max(...examples.map((one) => one[1])) + 1;
  for (const example of examples) {
    const [kind, quantile] = example;
    const title = kind ? `Silent: ${SILENT[kind]}` : `Fires: ${quantileName(quantile, quantiles)}`;
    if (title !== heading) parts.push(make("h3", {}, title));
    heading = title;
    parts.push(window_(example, columns.max_activation[row]));
  }
  return parts;
}

function quantileName(quantile, quantiles) {
  if (quantile === quantiles - 1) return "its strongest activations";
  return `quantile ${quantile + 1} of ${quantiles} of its activations`;
}

function window_([kind, , context, start, peak, tokens, pairs], highest) {
  const values = new Map();
  for (let i = 0; i < pairs.length; i += 2) values.set(pairs[i], pairs[i + 1]);
  const shown = tokens.map((token, place) => {
    const value = values.get(place);
    if (value === undefined) return make("span", {}, ...tokenParts(words[token]));
    const attributes = { "--value": Math.min(1, value / highest), title: String(value) };
    return make("mark", { ...attributes, class: place === peak ? "peak" : null }, ...tokenParts(words[token]));
  });
  const strongest = kind ? "" : fixed(values.get(peak) ?? Math.max(...values.values()), 2);
  const where = `context ${context}, tokens ${start} to ${start + tokens.length - 1}`;
  const parts = [make("small", {}, strongest), make("div", { class: "tokens" }, ...shown)];
  return make("div", { class: "window", title: where }, ...parts);
}
