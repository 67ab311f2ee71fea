// One tile of the grid: a picture, "no picture", or one in the making; a tile can turn from one into another in place.

import { el, webAddress } from "./dom.js";
import { clock, reason, shortReason } from "./words.js";

const UNFINISHED = new Set(["queued", "running"]);
export const isUnfinished = (image) => UNFINISHED.has(image.status);
export const hasPicture = (image) => image.status === "done" && Boolean(image.url);

function ratio(image) {
  const value = image.width > 0 && image.height > 0 ? image.width / image.height : 2 / 3;
  return Math.min(3, Math.max(0.4, value)).toFixed(4);
}

export function tile(image, note = "") {
  const item = el("li");
  become(item, image, note);
  return item;
}

// The same element, filled anew: what was in the making becomes its picture where it stands.
export function become(item, image, note = "") {
  item.className = isUnfinished(image) ? `making ${image.status}` : hasPicture(image) ? "" : "nothing";
  item.dataset.number = image.number;
  item.dataset.updated = image.updatedAt;
  item.style.setProperty("--ratio", ratio(image));
  item.replaceChildren(isUnfinished(image) ? making(image, note, item) : hasPicture(image) ? picture(image, item) : nothing(image));
}

function picture(image, item) {
  const source = webAddress(image.thumbnailUrl ?? image.url) ?? "";
  const there = item.querySelector("img");
  const shown = there?.src === source ? there : loaded(source); // the same picture does not fade in twice
  return el("a", { class: "tile", href: `#${image.number}`, "aria-label": `Picture ${image.number}: ${image.prompt ?? image.filename}` },
    el("span", { class: "frame", "--tint": image.color },
      shown,
      el("span", { class: "more" }, el("span", { class: "words", dir: "auto" }, image.prompt ?? image.filename), image.seed === null ? null : el("span", { class: "seed" }, `seed ${image.seed}`))),
    label(image));
}

export function loaded(source) {
  const shown = el("img", { alt: "", loading: "lazy", decoding: "async" });
  shown.addEventListener("load", () => shown.classList.add("seen"));
  shown.src = source;
  return shown;
}

function nothing(image) {
  return el("a", { class: "tile", href: `#${image.number}`, "aria-label": `No picture ${image.number}: ${reason(image)}` },
    el("span", { class: "frame" }, el("span", { class: "stands" }, el("strong", {}, "No picture"), el("span", {}, reason(image)))),
    label(image, shortReason(image)));
}

function label(image, why = "") {
  return el("span", { class: "number" }, String(image.number),
    image.favorite ? el("span", { class: "heart", role: "img", "aria-label": "favourite" }, "♥") : null,
    why ? el("span", { class: "why" }, why) : null,
    image.retrying ? el("span", {}, "being made again") : null);
}

function making(image, note, item) {
  const state = el("span", { class: "state" }, image.status === "running" ? "drawing" : note || "waiting");
  if (image.status === "running") {
    const since = item.querySelector(".clock")?.dataset.since ?? image.updatedAt; // a step further is no new beginning
    state.append(" ", el("span", { class: "clock", "data-since": since }, elapsed(since)));
  }
  return el("div", { class: "tile" },
    el("span", { class: "frame" }, el("span", { class: "stands" }, state)),
    label(image));
}

const elapsed = (since) => clock((Date.now() - Date.parse(since)) / 1000);

export function tick(root) {
  for (const shown of root.querySelectorAll(".clock")) shown.textContent = elapsed(shown.dataset.since);
}
