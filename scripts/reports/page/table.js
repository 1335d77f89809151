// Tables that are sorted by a click on a heading, and filtered by words.
function cellValue(body, column) {
  const text = body.rows[0].cells[column].dataset.value;
  return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

// Empty cells come last whatever the direction.
function compare(one, other, sign) {
  if (one === "" || other === "") return (one === "") - (other === "");
  return sign * (typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other)));
}

function sortBy(table, column) {
  const heading = table.tHead.rows[0].cells[column];
  const sign = heading.ariaSort === "ascending" ? -1 : 1;
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  heading.ariaSort = sign > 0 ? "ascending" : "descending";
  const bodies = [...table.tBodies];
  bodies.sort((one, other) => compare(cellValue(one, column), cellValue(other, column), sign));
  table.append(...bodies);
}

function toggleDetail(button) {
  const detail = button.closest("tbody").rows[1];
  detail.hidden = !detail.hidden;
  button.ariaExpanded = String(!detail.hidden);
}

// Every word must occur; capitals do not matter.
function matches(text, words) {
  return words.every((word) => text.toLowerCase().includes(word));
}

function wordsOf(input) {
  return input.value.toLowerCase().split(/\s+/).filter(Boolean);
}
