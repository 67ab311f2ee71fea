// Builds elements from plain values; text is only ever set as text, so nothing a prompt says can become markup.

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// For ears: what stands behind an open dialog is not heard.
export function say(text) {
  (document.querySelector("dialog[open] .said") ?? byId("said")).textContent = text;
}

// Copies a text, or one that is still to come; the button says so, and keeps its width.
export async function copy(text, button) {
  const coming = Promise.resolve(text);
  try {
    const blob = coming.then((said) => new Blob([said], { type: "text/plain" }));
    blob.catch(() => {}); // told below
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]); // Safari forgets the click while one waits
  } catch {
    copyWithoutClipboard(await coming, button);
  }
  const before = button.dataset.says ?? button.textContent;
  button.dataset.says = before;
  button.style.minWidth = `${button.offsetWidth}px`;
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = before; }, 1500);
}

// Pages reached over plain http have no clipboard; a selection that is copied does the same.
function copyWithoutClipboard(text, button) {
  const field = el("textarea", { class: "unseen", readonly: true, "aria-hidden": "true" });
  field.value = text;
  button.after(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  button.focus();
}

// The address of a picture comes from the server's index; only web addresses are followed.
export function webAddress(address) {
  try {
    const url = new URL(address, location.href);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
