// One picture on near-black, with all that is known of it beside; keys ← → Esc i f ?.

import { el, say, webAddress } from "./dom.js";
import { facts, keys } from "./panel.js";
import { hasPicture } from "./tiles.js";
import { reason } from "./words.js";

const PANEL = "pipeline.panel";

export class Lightbox {
  constructor(gallery) {
    this.gallery = gallery;
    this.number = null;
    this.keys = keys();
    this.figure = el("figure", { tabindex: "-1" });
    this.panel = el("aside", { class: "panel", "aria-label": "About this picture", tabindex: "0" });
    this.before = this.button("step before", "Newer picture", "‹", () => this.step(-1));
    this.after = this.button("step after", "Older picture", "›", () => this.step(1));
    this.about = this.button("", "About this picture", "i", () => this.togglePanel());
    this.stage = el("div", { class: "stage" }, this.figure, this.before, this.after,
      el("div", { class: "bar" }, this.about, this.button("fill", "Fill the screen", "", () => this.fill()), this.button("", "Close", "×", () => this.close())));
    this.dialog = el("dialog", { class: "lightbox", "aria-label": "Picture", onclose: () => this.closed(), onkeydown: (event) => this.key(event) },
      this.stage, this.panel, el("p", { class: "unseen said", role: "status" }));
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

  show(number, opened = false) {
    const place = this.place(number);
    if (place < 0) return;
    this.number = number;
    this.draw();
    this.panel.scrollTop = 0;
    if (!this.dialog.open) {
      this.backClosesIt = opened;
      this.dialog.showModal();
      document.documentElement.classList.add("covered");
      this.figure.focus();
    }
    const { images } = this.gallery;
    for (const near of [images[place + 1], images[place - 1]]) if (near && hasPicture(near)) new Image().src = webAddress(near.url) ?? "";
    if (images.length - place < 5) this.gallery.more().then(() => this.renew());
  }

  place(number) {
    return this.gallery.images.findIndex((image) => image.number === number);
  }

  draw() {
    this.image = this.gallery.images[this.place(this.number)];
    this.figure.replaceChildren(this.large());
    this.panel.replaceChildren(...facts(this.image, this.gallery), this.keys);
    this.renew();
  }

  // What stands round the picture may have changed: others came, or it is another picture itself.
  renew(changed = null) {
    if (this.open && changed === this.number) this.draw();
    const place = this.place(this.number);
    this.before.disabled = place <= 0;
    this.after.disabled = place === this.gallery.images.length - 1 && !this.gallery.next;
  }

  large() {
    const { image } = this;
    const ratio = image.width / image.height || 2 / 3;
    if (!hasPicture(image)) return el("div", { class: "empty", "--ratio": ratio }, el("div", { class: "stands" }, el("strong", {}, "No picture"), el("span", {}, reason(image))));
    const shown = el("img", { src: webAddress(image.thumbnailUrl ?? image.url), alt: image.prompt ?? image.filename, "--ratio": ratio, "--width": `${image.width}px`, "--tint": image.color });
    const whole = new Image(); // the small version, which is there already, stands until the whole picture can be drawn
    whole.src = webAddress(image.url) ?? "";
    whole.decode().then(() => { shown.src = whole.src; }, () => {});
    return shown;
  }

  async step(by) {
    const place = this.place(this.number) + by;
    if (place >= this.gallery.images.length) await this.gallery.more();
    const target = this.gallery.images[place];
    if (!target) return;
    this.show(target.number);
    history.replaceState(null, "", `#${target.number}`);
    say(hasPicture(target) ? `Picture ${target.number}: ${target.prompt ?? target.filename}` : `No picture ${target.number}: ${reason(target)}`);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const does = { ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), i: () => this.togglePanel(), f: () => this.fill(), "?": () => this.toggleKeys() }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  // Browsers refuse to fill the screen with a dialog, but not with what stands in it.
  fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.stage.requestFullscreen?.().then(() => this.figure.focus(), () => {});
  }

  toggleKeys() {
    this.keys.hidden = this.panelSeen && !this.keys.hidden;
    if (!this.panelSeen) this.togglePanel();
    if (!this.keys.hidden) this.keys.scrollIntoView({ block: "nearest" });
  }

  get panelSeen() {
    return !document.fullscreenElement && this.dialog.classList.contains("with-panel");
  }

  togglePanel() {
    this.setPanel(!this.panelSeen);
    if (document.fullscreenElement) document.exitFullscreen();
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
    if (document.fullscreenElement) document.exitFullscreen();
    document.documentElement.classList.remove("covered");
    if (location.hash && this.backClosesIt) history.back(); // else one would go Back to what is there already
    else if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    this.figure.replaceChildren();
    this.keys.hidden = true;
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
}
