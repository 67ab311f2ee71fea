// One picture on near-black, with all that is known of it beside; keys ← → Esc i f ?.

import { get } from "./api.js";
import { copy, el, webAddress } from "./dom.js";
import { jobFile, promptOf } from "./jobfile.js";
import { hasPicture } from "./tiles.js";
import { reason, size, when } from "./words.js";

const PANEL = "pipeline.panel";

export class Lightbox {
  constructor(gallery) {
    this.gallery = gallery;
    this.number = null;
    this.figure = el("figure", { tabindex: "-1" });
    this.panel = el("aside", { class: "panel", "aria-label": "About this picture", tabindex: "0" });
    this.before = this.button("step before", "Newer picture", "‹", () => this.step(-1));
    this.after = this.button("step after", "Older picture", "›", () => this.step(1));
    this.about = this.button("", "About this picture", "i", () => this.togglePanel());
    this.dialog = el("dialog", { class: "lightbox", "aria-label": "Picture", onclose: () => this.closed(), onkeydown: (event) => this.key(event) },
      el("div", { class: "stage" }, this.figure, this.before, this.after,
        el("div", { class: "bar" }, this.about, this.button("fill", "Fill the screen", "", () => this.fill()), this.button("", "Close", "×", () => this.close()))),
      this.panel);
    document.body.append(this.dialog);
    this.swipe();
    this.setPanel((localStorage.getItem(PANEL) ?? (innerWidth > 640 ? "open" : "shut")) === "open");
  }

  get open() {
    return this.dialog.open;
  }

  button(kind, name, sign, onclick) {
    return el("button", { type: "button", class: kind || null, "aria-label": name, title: name, onclick }, sign);
  }

  show(number) {
    const { images } = this.gallery;
    const place = images.findIndex((image) => image.number === number);
    if (place < 0) return;
    this.number = number;
    this.image = images[place];
    this.before.disabled = place === 0;
    this.after.disabled = place === images.length - 1 && !this.gallery.next;
    this.figure.replaceChildren(this.large());
    this.panel.replaceChildren(...this.facts());
    this.panel.scrollTop = 0;
    if (!this.dialog.open) {
      this.dialog.showModal();
      document.documentElement.classList.add("covered");
      this.figure.focus();
    }
    for (const near of [images[place + 1], images[place - 1]]) if (near && hasPicture(near)) new Image().src = webAddress(near.url) ?? "";
    if (images.length - place < 5) this.gallery.more();
  }

  large() {
    const { image } = this;
    if (hasPicture(image)) return el("img", { src: webAddress(image.url), alt: image.prompt ?? image.filename, width: image.width, height: image.height });
    return el("div", { class: "empty", "--ratio": image.width / image.height || 0.67 }, el("div", { class: "stands" }, el("strong", {}, "No picture"), el("span", {}, reason(image))));
  }

  async step(by) {
    const place = this.gallery.images.findIndex((image) => image.number === this.number) + by;
    if (place >= this.gallery.images.length) await this.gallery.more();
    const target = this.gallery.images[place];
    if (!target) return;
    this.show(target.number);
    history.replaceState(null, "", `#${target.number}`);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const does = { ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), i: () => this.togglePanel(), f: () => this.fill(), "?": () => this.keys() }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.dialog.requestFullscreen?.().catch(() => {});
  }

  keys() {
    this.setPanel(true);
    this.panel.querySelector(".keys").hidden = false;
    this.panel.querySelector(".keys").scrollIntoView({ block: "nearest" });
  }

  togglePanel() {
    this.setPanel(!this.dialog.classList.contains("with-panel"));
    localStorage.setItem(PANEL, this.dialog.classList.contains("with-panel") ? "open" : "shut");
  }

  setPanel(open) {
    this.dialog.classList.toggle("with-panel", open);
    this.about.setAttribute("aria-expanded", String(open));
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  closed() {
    document.documentElement.classList.remove("covered");
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    this.figure.replaceChildren();
    this.gallery.focus(this.number);
  }

  swipe() {
    let start = null;
    this.figure.addEventListener("touchstart", (event) => { start = event.touches.length === 1 ? event.touches[0].clientX : null; }, { passive: true });
    this.figure.addEventListener("touchend", (event) => {
      const moved = start === null ? 0 : event.changedTouches[0].clientX - start;
      if (Math.abs(moved) > 50) this.step(moved < 0 ? 1 : -1);
    }, { passive: true });
  }

  facts() {
    const { image } = this;
    const under = [image.createdAt && when(image.createdAt), `${image.width} × ${image.height}`, hasPicture(image) && size(image.bytes)];
    return [
      el("h2", {}, image.filename, image.favorite ? " ♥" : ""),
      el("p", { class: "under" }, under.filter(Boolean).join(" · ")),
      hasPicture(image) ? null : this.missing(),
      image.prompt ? this.text("Prompt", image.prompt) : null,
      image.negativePrompt ? this.text("Negative prompt", image.negativePrompt) : null,
      image.seed === null ? null : this.text("Seed", String(image.seed)),
      this.list(),
      this.doings(),
      el("p", { class: "keys", hidden: true }, ...["←", "→", " step   ", "i", " this panel   ", "f", " fill the screen   ", "Esc", " close"].map((part) => (/^\W?\w?$|Esc/.test(part) ? el("kbd", {}, part) : part))),
    ].filter(Boolean);
  }

  copyButton(text, what) {
    return el("button", { type: "button", class: "copy", "aria-label": `Copy ${what}`, onclick: (event) => copy(text, event.currentTarget) }, "Copy");
  }

  text(name, text) {
    return el("section", {}, el("div", { class: "row" }, el("h3", {}, name), this.copyButton(text, name.toLowerCase())), el("p", {}, text));
  }

  missing() {
    const line = `pipeline retry ${this.gallery.id} ${this.number}`;
    return el("section", { class: "reason" }, el("strong", {}, "No picture"), el("p", {}, reason(this.image)),
      el("div", { class: "row" }, el("h3", {}, "Make it again"), this.copyButton(line, "the command")), el("code", {}, line));
  }

  list() {
    const { image } = this;
    const seconds = image.gpuSeconds ? `${image.gpuSeconds.toFixed(1)} s` : null;
    const rows = [["Style", image.style], ["Back end", image.backend], ["Model", image.model], ["Steps", image.steps], ["CFG scale", image.cfgScale], ["Sampler", image.samplerName],
      ["GPU time", seconds], ["Attempts", image.attempts || null], ["Labels", image.labels.join(", ") || null], ["Job", image.jobId]];
    return el("dl", {}, ...rows.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
  }

  doings() {
    const { image } = this;
    const address = hasPicture(image) ? webAddress(image.url) : null;
    const amount = el("select", { "aria-label": "How many images the job file asks for" }, ...[1, 2, 4, 8].map((n) => el("option", { value: n }, n === 1 ? "1 image" : `${n} images`)));
    const button = el("button", { type: "button" }, "Copy as job file");
    button.addEventListener("click", async () => copy(jobFile(image, this.gallery.id, { quantity: Number(amount.value), prompt: await this.said(image) }), button));
    return el("div", { class: "does" },
      address ? el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, "Full size") : null,
      address ? el("a", { href: address, download: `${image.filename}.${image.format ?? "png"}` }, "Download") : null,
      button, amount);
  }

  async said(image) {
    try {
      const job = image.jobId && (await get(`/api/jobs/${encodeURIComponent(image.jobId)}`)).data;
      return (job && promptOf(job, image.number)) || image.prompt;
    } catch {
      return image.prompt;
    }
  }
}
