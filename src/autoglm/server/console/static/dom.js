// Making and finding elements. Text always becomes text: nothing here, or anywhere on the page, parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

/** An element with attributes, `on…` listeners and children (elements or text). */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Put an element at a place of the screen, in thousandths. Styles set by script are allowed by the page's policy. */
export function place(element, [x, y]) {
  element.style.left = `${(x + 0.5) / 10}%`;
  element.style.top = `${(y + 0.5) / 10}%`;
  return element;
}

let hiding = 0;

/** Say something that went wrong. */
export function toast(text) {
  const box = $('toast');
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { box.hidden = true; }, 6000);
}
