// All that is known of one picture, in words, with what a person may copy.

import { address, get } from "./api.js";
import { copy, el, webAddress } from "./dom.js";
import { hasPicture } from "./tiles.js";
import { reason, size, when } from "./words.js";

const KEYS = [["Newer, older", "←", "→"], ["This panel", "i"], ["Fill the screen", "f"], ["These keys", "?"], ["Close", "Esc"]];

export function facts(image, gallery) {
  const under = [image.createdAt && when(image.createdAt), `${image.width} × ${image.height}`, hasPicture(image) && size(image.bytes)];
  return [
    el("h2", {}, image.filename, image.favorite ? el("span", { class: "heart", role: "img", "aria-label": "favourite" }, " ♥") : null),
    el("p", { class: "under" }, under.filter(Boolean).join(" · ")),
    hasPicture(image) ? null : missing(image, gallery.id),
    image.prompt ? text("Prompt", image.prompt) : null,
    image.negativePrompt ? text("Negative prompt", image.negativePrompt) : null,
    image.seed === null ? null : text("Seed", String(image.seed)),
    list(image),
    ...doings(image, gallery.path),
  ].filter(Boolean);
}

export function keys() {
  const row = ([name, ...signs]) => [el("dt", {}, name), el("dd", {}, ...signs.map((sign) => el("kbd", {}, sign)))];
  return el("section", { class: "keys", hidden: true }, el("h3", {}, "Keys"), el("dl", {}, ...KEYS.flatMap(row)));
}

function copyButton(said, what) {
  return el("button", { type: "button", class: "copy", "aria-label": `Copy ${what}`, onclick: (event) => copy(said, event.currentTarget) }, "Copy");
}

function text(name, said) {
  return el("section", {}, el("div", { class: "row" }, el("h3", {}, name), copyButton(said, name.toLowerCase())), el("p", { dir: "auto" }, said));
}

function missing(image, character) {
  const line = `pipeline retry ${character} ${image.number}`;
  const remedy = image.retrying
    ? [el("p", {}, "It is being made again.")]
    : [el("div", { class: "row" }, el("h3", {}, "Make it again"), copyButton(line, "the command")), el("code", {}, line)];
  return el("section", { class: "reason" }, el("strong", {}, "No picture"), el("p", {}, reason(image)), ...remedy);
}

function list(image) {
  const seconds = image.gpuSeconds ? `${image.gpuSeconds.toFixed(1)} s` : null;
  const rows = [["Style", image.style], ["Back end", image.backend], ["Model", image.model], ["Steps", image.steps], ["CFG scale", image.cfgScale], ["Sampler", image.samplerName],
    ["GPU time", seconds], ["Attempts", image.attempts || null], ["Labels", image.labels.join(", ") || null], ["Job", image.jobId]];
  return el("dl", {}, ...rows.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

function doings(image, path) {
  const source = hasPicture(image) ? webAddress(image.url) : null;
  return [
    source ? el("div", { class: "does" },
      el("a", { href: source, target: "_blank", rel: "noopener noreferrer" }, "Full size"),
      el("a", { href: source, download: `${image.filename}.${image.format ?? "png"}` }, "Download")) : null,
    ...(image.jobId && image.prompt ? asJob(image, path) : []),
  ];
}

// The server writes the file: it alone knows what a style adds, and all that the back end was told.
function asJob(image, path) {
  const amount = el("select", { "aria-label": "How many images the job file asks for" }, ...[1, 2, 4, 8].map((n) => el("option", { value: n }, n === 1 ? "1 image" : `${n} images`)));
  const problem = el("p", { class: "under", role: "status" });
  const button = el("button", { type: "button", onclick: async (event) => {
    problem.textContent = "";
    const asked = address(`${path}/images/${image.number}/job`, { quantity: amount.value });
    try {
      await copy(get(asked).then((answer) => answer.data.jobFile), event.currentTarget);
    } catch (error) {
      problem.textContent = error.message || "Not reached; try again.";
    }
  } }, "Copy as job file");
  return [el("div", { class: "does" }, button, amount), problem];
}
