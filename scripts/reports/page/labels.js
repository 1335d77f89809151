// Names beside points: above and to the left of a point on the front there is nothing better, so there is room.
const CHARACTER = 7.2; // pixels, of the width of a letter
const LETTER = 16; // and of its height
const LONGEST = 0.4; // of the width of a plot; a longer name is left out

function lengthOf(name) {
  return name ? CHARACTER * name.length + 12 : 0;
}

// The limits of an axis on which every name fits to the left of its point; `width` is the axis's in pixels.
function limits(places, names, width) {
  const span = Math.max(...places) - Math.min(...places) || 1;
  const high = Math.max(...places) + 0.04 * span;
  const wanted = places.map((place, number) => {
    const length = lengthOf(names[number]);
    if (length > LONGEST * width) return place;
    return (place * width - length * high) / (width - length);
  });
  return [Math.min(Math.min(...places) - 0.04 * span, ...wanted), high];
}

// The names of points at pixels x and y; in place of one that is too long or would cover another to its right, nothing.
function withoutOverlap(points, width) {
  const kept = [];
  return [...points].reverse().map(({ x, y, name }) => {
    const left = x - lengthOf(name);
    const covers = lengthOf(name) > LONGEST * width || kept.some((other) => x > other.left && left < other.x && Math.abs(y - other.y) < LETTER);
    if (!covers) kept.push({ left, x, y });
    return covers ? "" : name;
  }).reverse();
}
