// Numbers and tokens as they are shown; all text goes into the page as text, never as HTML.
const NONE = "–";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
const percent = (value, digits = 1) => (value === null ? NONE : `${fixed(100 * value, digits)}\u00a0%`);

// Shares of tokens are small: two significant digits.
function rate(value) {
  if (value === null) return NONE;
  if (value === 0) return "0\u00a0%";
  return `${value >= 0.1 ? fixed(100 * value, 0) : Number((100 * value).toPrecision(2))}\u00a0%`;
}

function shownFigure(figure, value) {
  if (value === null) return NONE;
  return figure.unit === "%" ? percent(value) : `${fixed(value, 3)} ${figure.unit}`.trim();
}

// A token as a reader sees it: characters without a picture of their own get one.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const PICTURES = { "\n": "↵", "\t": "⇥", "\r": "␍" };

function tokenParts(text) {
  if (text === "") return [make("span", { class: "code" }, "∅")];
  const parts = [];
  let last = 0;
  for (const found of text.matchAll(INVISIBLE)) {
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    parts.push(text.slice(last, found.index), make("span", { class: "code" }, PICTURES[found[0]] ?? `‹${code}›`));
    last = found.index + found[0].length;
  }
  return [...parts, text.slice(last)];
}

function tags(row) {
  const names = ["dead", "unscored", "dense", "token_only"].filter((name) => columns[name][row]);
  return names.map((name) => make("span", { class: "tag" }, name.replace("_only", "")));
}
