"use strict";

// Sorting: every heading becomes a button; rows without a number stay last in both directions.
const SORTS = ["ascending", "descending"];

function number(text) {
  return /^[+-]?\d/.test(text) ? parseFloat(text) : NaN;
}

function compare(one, other) {
  const [a, b] = [number(one), number(other)];
  return isNaN(a) || isNaN(b) ? one.localeCompare(other, "en", { numeric: true }) : a - b;
}

function sort(table, heading) {
  const column = heading.cellIndex;
  const direction = SORTS[heading.getAttribute("aria-sort") === "ascending" ? 1 : 0];
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...body.rows].map((row) => [row, text(row)]);
  const known = rows.filter(([, value]) => value !== "-").sort(([, one], [, other]) => compare(one, other));
  if (direction === "descending") known.reverse();
  body.append(...[...known, ...rows.filter(([, value]) => value === "-")].map(([row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(table, heading));
    heading.replaceChildren(button);
  }
}

// Filtering: rows and cells by words, by fields of the recipe, and by the values of the axes.
const form = document.getElementById("filter");
const filtered = [...document.querySelectorAll("[data-cell]")];
const texts = {}; // by cell: its name, its rows and its marks
const fields = {}; // by cell: its recipe, such as lr=0.02
for (const element of filtered) {
  const cell = element.dataset.cell;
  const parts = element.tagName === "TR" ? [element] : element.querySelectorAll(".marks");
  const found = [...parts].map((part) => part.textContent).join(" ");
  texts[cell] = `${texts[cell] ?? cell} ${found}`.toLowerCase();
  const recipe = [...element.querySelectorAll(".recipe tr")].map((row) => [...row.cells].map((one) => one.textContent));
  if (recipe.length) fields[cell] = new Set(recipe.map((pair) => pair.join("=").replace(/\s/g, "").toLowerCase()));
}

function fits(element, words, chosen) {
  const cell = element.dataset.cell;
  return (
    words.every((word) => texts[cell].includes(word) || fields[cell].has(word)) &&
    chosen.every((select) => element.getAttribute(`data-axis-${select.name}`) === select.value)
  );
}

function filter() {
  const words = form.elements.text.value.toLowerCase().split(/\s+/);
  const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
  for (const element of filtered) element.hidden = !fits(element, words, chosen);
  const rows = filtered.filter((element) => element.tagName === "TR");
  const shown = rows.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${rows.length} rows shown`;
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// A link to a cell opens it, also where a filter hid it.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const cell = target && target.closest("details.cell");
  if (!cell) return;
  cell.hidden = false;
  cell.open = true;
  cell.querySelector("summary").focus({ preventScroll: true });
  target.scrollIntoView();
}

addEventListener("hashchange", open);
open();

// The colours: as the reader's system has them, until the button says otherwise; theme.js remembers what it said.
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

function name() {
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `${button.textContent} colours`);
}

button.hidden = false;
button.addEventListener("click", () => {
  const dark = !isDark();
  choose(dark === system.matches ? "" : dark ? "dark" : "light");
  name();
});
system.addEventListener("change", name);
name();
