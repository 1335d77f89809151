// Light or dark: as the browser wishes, until the button is pressed.
const root = document.documentElement;
const browserIsDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : browserIsDark.matches;
}

function color(name) {
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}
