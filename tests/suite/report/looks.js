// What is wrong with how the page looks: a list of sentences.
const complaints = [];
const shown = (element) => element.getClientRects().length > 0 && element.checkVisibility({ visibilityProperty: true });
const words = (element) => element.textContent.trim().slice(0, 40);

if (document.documentElement.scrollWidth > innerWidth) {
  complaints.push(`the page is ${document.documentElement.scrollWidth} px wide on a screen of ${innerWidth} px`);
}

const overlaps = (a, b) => {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return width > 1 && height > 1;
};
const apart = (elements, what) => {
  const boxes = elements.filter(shown).map((element) => [element, element.getBoundingClientRect()]);
  boxes.forEach(([first, a], place) => {
    for (const [second, b] of boxes.slice(place + 1)) {
      if (!first.contains(second) && !second.contains(first) && overlaps(a, b)) {
        complaints.push(`${what}: "${words(first)}" overlaps "${words(second)}"`);
      }
    }
  });
};

// Text in plots: apart from each other, inside of the plot, and large enough to be read.
let plots = 0;
for (const svg of [...document.querySelectorAll("svg")].filter(shown)) {
  plots += 1;
  const texts = [...svg.querySelectorAll("text")];
  apart(texts, svg.querySelector("title").textContent);
  const frame = svg.getBoundingClientRect();
  for (const text of texts) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
      complaints.push(`"${words(text)}" leaves its plot`);
    }
    const ems = parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width;
    if (ems < 10.5) complaints.push(`"${words(text)}" is only ${ems.toFixed(1)} px high`);
  }
}
// The legend, which is the text that is not muted: each name and the swatch of 22 px before it are apart from the name before.
for (const svg of [...document.querySelectorAll("svg")].filter(shown)) {
  const scale = svg.getBoundingClientRect().width / Number(svg.getAttribute("width"));
  const names = [...svg.querySelectorAll('text[fill="#1F2933"]')].map((text) => [text, text.getBoundingClientRect()]);
  for (const [first, a] of names) {
    for (const [second, b] of names) {
      const isNext = Math.abs(a.top - b.top) < 2 && b.left > a.left;
      if (isNext && b.left - a.right < 28 * scale) complaints.push(`"${words(first)}" touches the swatch of "${words(second)}"`);
    }
  }
}
if (plots < 4) complaints.push(`only ${plots} plots are shown`);

// Every table has its own names for its columns, and shows that there is more beyond an edge.
for (const table of [...document.querySelectorAll("table")].filter(shown)) {
  const names = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const doubled = names.filter((name, place) => names.indexOf(name) !== place);
  if (doubled.length > 0) complaints.push(`several columns are called "${doubled[0]}"`);
  const frame = table.closest(".scroll");
  if (!frame) complaints.push(`a table with "${names[0]}" does not scroll in a frame of its own`);
  else if (!getComputedStyle(frame).backgroundAttachment.includes("local")) complaints.push(`the frame of "${names[0]}" has no shadow`);
}

// Everything else that is read.
apart([...document.querySelectorAll("h1, h2, h3, p:not(.note), dt, dd, li, figcaption, summary, svg, .scroll")], "page");
for (const table of [...document.querySelectorAll("table")].filter(shown)) {
  const rows = [...table.tBodies[0].rows].slice(0, 50);
  rows.forEach((row) => apart([...row.cells], "row"));
}

// Every text stands out from what is behind it, by WCAG 2.2 AA.
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
const luminance = ([red, green, blue]) => {
  const linear = [red, green, blue].map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const colour = numbers(getComputedStyle(each).backgroundColor);
    if (colour.length < 4 || colour[3] > 0.99) return colour;
  }
  return [255, 255, 255];
};
const seen = new Set();
for (const element of [...document.querySelectorAll("body *")].filter(shown)) {
  if (![...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim())) continue;
  const style = getComputedStyle(element);
  const svg = element.closest("svg");
  const colour = numbers(svg ? style.fill : style.color);
  const back = svg ? numbers(getComputedStyle(svg.querySelector("rect")).fill) : behind(element);
  const [light, dark] = [luminance(colour), luminance(back)].sort((a, b) => b - a);
  const contrast = (light + 0.05) / (dark + 0.05);
  const key = `${colour} ${back}`;
  if (contrast < 4.5 && !seen.has(key)) {
    seen.add(key);
    complaints.push(`"${words(element)}" has a contrast of ${contrast.toFixed(2)}`);
  }
}
return complaints;
