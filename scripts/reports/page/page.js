// Wires the page: each group draws itself when it is opened, and again when a choice or the colours change.
class Group {
  constructor(section) {
    this.section = section;
    this.plots = JSON.parse(section.querySelector("script.plots").textContent);
    this.plots.lines.forEach((line, place) => { line.place = place; });
    this.filter = section.querySelector("input[type=search]");
    const table = section.querySelector("table.networks");
    [...table.tHead.rows[0].cells].forEach((cell, column) =>
      cell.querySelector("button").addEventListener("click", () => sortBy(table, column)));
    table.querySelectorAll(".more").forEach((button) => button.addEventListener("click", () => toggleDetail(button)));
    this.filter.addEventListener("input", () => this.show());
    section.querySelectorAll("select, .log").forEach((input) => input.addEventListener("change", () => this.draw()));
    section.addEventListener("toggle", () => this.draw());
    this.show();
  }

  show() {
    const words = wordsOf(this.filter);
    this.lines = this.plots.lines.filter((line) => matches(line.name, words));
    const names = new Set(this.lines.map((line) => line.name));
    this.section.querySelectorAll("[data-name]").forEach((part) => { part.hidden = !names.has(part.dataset.name); });
    this.say(".shown", words.length ? `${this.lines.length} of ${this.plots.lines.length} networks` : "");
    this.draw();
  }

  say(place, text) {
    this.section.querySelector(place).textContent = text;
  }

  draw() {
    if (!this.section.open) return;
    const find = (selector) => this.section.querySelector(selector);
    const axis = this.plots.axes.find((each) => each.key === find(".axis").value);
    const missing = drawAccuracy(find(".accuracy"), axis, find(".log").checked, this.lines);
    this.say(".missing", missing ? `${missing} of ${this.lines.length} networks have no such number and are not shown.` : "");
    if (find(".curves")) this.drawCurves(find(".metric").selectedOptions[0]);
    if (find(".gates")) drawGates(find(".gates"), this.lines);
  }

  drawCurves(chosen) {
    const missing = drawCurves(this.section.querySelector(".curves"), chosen.value, chosen.textContent, this.lines);
    this.say(".missing-curves", missing ? `${missing} of ${this.lines.length} networks have no such curve in a metrics.csv beside their results.` : "");
  }
}

function filterPublished(section) {
  const input = section.querySelector("input[type=search]");
  input.addEventListener("input", () => {
    const words = wordsOf(input);
    let shown = 0;
    for (const part of section.querySelectorAll("section.published")) {
      const heading = part.querySelector("h3").textContent;
      const rows = [...part.querySelectorAll("tbody tr")];
      for (const row of rows) row.hidden = !matches(`${heading} ${row.textContent}`, words);
      const left = rows.filter((row) => !row.hidden).length;
      part.hidden = !left;
      shown += left;
    }
    section.querySelector(".shown").textContent = words.length ? `${shown} rows` : "";
  });
}

function nameTheme() {
  document.getElementById("theme").textContent = isDark() ? "light colours" : "dark colours";
}

const sections = [...document.querySelectorAll("details.group:not(#published)")];
const groups = sections.map((section) => new Group(section));
filterPublished(document.getElementById("published"));
function recolor() {
  nameTheme();
  groups.forEach((group) => group.draw());
}
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  recolor();
});
browserIsDark.addEventListener("change", recolor);
nameTheme();
