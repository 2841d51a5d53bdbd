"use strict";

// The data: JSON in compressed blocks, each unpacked when it is first asked for.
const MOST_BLOCKS = 24; // that stay unpacked
const unpacked = new Map();
const wholePage = new Promise((done) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done);
  else done();
});

async function unpack(id) {
  if (!document.getElementById(id)?.nextSibling) await wholePage; // its end has not arrived
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function block(id) {
  const found = unpacked.get(id) ?? unpack(id);
  unpacked.delete(id);
  unpacked.set(id, found); // the last one is the one that was asked for last
  if (unpacked.size > MOST_BLOCKS) unpacked.delete(unpacked.keys().next().value);
  return found;
}

let cells, figures, columns, blockSize;
let words; // the text of each token on the page

async function readIndex() {
  ({ cells, figures, columns, blockSize } = await unpack("index"));
  let first = 0;
  for (const cell of cells) {
    cell.first = first;
    cell.name = cell.seed === null ? cell.arm : `${cell.arm}, seed ${cell.seed}`;
    first += cell.latents;
  }
  columns.seed = columns.cell.map((cell) => cells[cell].seed);
}

// Windows, histogram and logits of the latent in a row of the table.
async function examplesOf(row) {
  const cell = cells[columns.cell[row]];
  const place = row - cell.first;
  words ??= await unpack("words");
  return (await block(`block-${cell.block + Math.floor(place / blockSize)}`))[place % blockSize];
}

// The row of a latent of a cell, or -1 where the page does not have it.
function rowOf(cell, latent) {
  let [low, high] = [cell.first, cell.first + cell.latents - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (columns.latent[middle] === latent) return middle;
    if (columns.latent[middle] < latent) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

const address = (row) => `#${cells[columns.cell[row]].id}/${columns.latent[row]}`;

function rowAt(hash) {
  const [id, latent] = hash.slice(1).split("/");
  const cell = cells.find((one) => one.id === id);
  return cell === undefined ? -1 : rowOf(cell, Number(latent));
}
