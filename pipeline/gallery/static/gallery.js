// A character's gallery: the pictures by day, what is in the making above them, more as one scrolls.

import { Unreachable, address, follow, get } from "./api.js";
import { byId, el, say } from "./dom.js";
import { Lightbox } from "./lightbox.js";
import { Making } from "./making.js";
import { become, hasPicture, tile } from "./tiles.js";
import { counted, day } from "./words.js";

const PAGE = 60;
const MOST = 1000; // that one answer holds
const SCROLLED = 240;
const WORD = /[\p{L}\p{N}_]/u; // what a search must have one of
const SHOWN = { "": {}, pictures: { status: "done" }, favorites: { favorite: "true" }, missing: { status: "placeholder,failed" } };

class Gallery {
  constructor(id, signal) {
    this.id = id;
    this.path = `/api/image-generation/character/${encodeURIComponent(id)}`;
    this.signal = signal;
    this.main = byId("main");
    this.making = new Making(this.path, () => this.settle(), (number) => this.tiles.has(number));
    this.lightbox = new Lightbox(this);
    this.query = { q: "", show: "" };
    this.held = [];
    this.reset();
    this.listen();
    this.watch();
  }

  reset() {
    this.turn = (this.turn ?? 0) + 1;
    this.images = [];
    this.tiles = new Map();
    this.groups = new Map();
    this.next = null;
    this.loading = false;
    this.drawn = false;
    this.held = [];
    this.stale = false;
    this.making.forget();
  }

  listen() {
    const options = { signal: this.signal };
    let typing;
    byId("find").addEventListener("submit", (event) => { event.preventDefault(); this.ask(); }, options);
    byId("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => this.ask(), 250); }, options);
    byId("filter").addEventListener("change", () => this.ask(), options);
    byId("arrivals").addEventListener("click", () => { scrollTo({ top: 0 }); this.settle(); }, options);
    addEventListener("scroll", () => { if (scrollY < 40 && (this.held.length || this.unsettled)) this.settle(); }, { ...options, passive: true });
    addEventListener("hashchange", ({ oldURL }) => this.openFromAddress(!new URL(oldURL).hash), options);
    addEventListener("keydown", (event) => {
      if (event.key === "/" && !this.lightbox.open && !/INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) {
        event.preventDefault();
        byId("search").focus();
      }
    }, options);
    this.end = el("div", { class: "end" });
    this.watcher = new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) this.more(); }, { rootMargin: "900px" });
    this.signal.addEventListener("abort", () => this.leave());
  }

  // Nothing stays, and what is still to come is not shown.
  leave() {
    this.turn += 1;
    this.watcher.disconnect();
    this.lightbox.close();
    this.lightbox.dialog.remove();
  }

  // A picture that is chosen, or made again, changes no count: so the newest of them are followed besides.
  async watch() {
    const changed = (data) => { if (this.drawn && this.plain) this.merge(data); };
    await follow(address(this.path, { limit: PAGE }), { changed, reached: () => {}, signal: this.signal }).catch(() => {}); // told by the other
  }

  parameters(more = {}) {
    return { ...SHOWN[this.query.show], q: this.query.q, limit: PAGE, ...more };
  }

  async newest() {
    if (this.query.q && !WORD.test(this.query.q)) return { images: [], totalCount: 0, next: null };
    return (await get(address(this.path, this.parameters()))).data;
  }

  get plain() {
    return !this.query.q && !this.query.show;
  }

  // Called at the start and whenever the character's revision has moved.
  async changed(character) {
    this.character = character;
    const turn = this.turn;
    const [data] = await Promise.all([this.newest(), this.plain ? this.making.refresh(character.counts) : null]);
    if (turn !== this.turn) return;
    if (this.drawn) this.merge(data);
    else this.draw(data);
  }

  head(total) {
    const { name, counts } = this.character;
    const making = counts.queued + counts.running;
    document.title = `${name} · Pipeline`;
    byId("slash").hidden = false;
    byId("find").hidden = false;
    Object.assign(byId("title"), { hidden: false, textContent: name });
    const images = counted(counts.done + counts.placeholder, "image");
    const found = this.plain ? images : `${total.toLocaleString("en-GB")} of ${images}`;
    byId("summary").textContent = found + (making ? ` · ${making} in the making` : "");
  }

  async ask() {
    const query = { q: byId("search").value.trim(), show: byId("filter").value };
    if (query.q === this.query.q && query.show === this.query.show) return;
    this.query = query;
    this.reset();
    this.watcher.disconnect();
    const turn = this.turn;
    try {
      const making = this.plain && this.character ? this.making.refresh(this.character.counts) : null;
      const [data] = await Promise.all([this.newest(), making]);
      if (turn === this.turn) this.draw(data);
    } catch (error) {
      if (turn === this.turn) this.instead(error instanceof Unreachable ? "Not reached" : "Nothing found", error.message);
    }
  }

  draw(data) {
    this.drawn = true;
    this.head(data.totalCount);
    this.next = data.next;
    byId("arrivals").hidden = true;
    this.main.replaceChildren(this.plain ? this.making.section : "", this.end);
    if (!data.images.length && !(this.plain && this.making.size)) this.nothing();
    this.append(data.images);
    this.watcher.disconnect();
    this.watcher.observe(this.end);
    if (!this.plain) say(counted(data.totalCount, "picture"));
    this.openFromAddress();
  }

  append(images) {
    for (const image of images) {
      if (this.tiles.has(image.number)) continue;
      const item = tile(image);
      this.images.push(image);
      this.tiles.set(image.number, item);
      this.group(image, "last").append(item);
    }
  }

  group(image, where) {
    const name = day(image.createdAt ?? image.updatedAt);
    let list = this.groups.get(name);
    if (!list) {
      list = el("ul", { class: "tiles", "aria-label": name });
      const section = el("section", {}, el("h2", {}, name), list);
      const first = this.groups.values().next().value?.parentElement;
      if (where === "first" && first) first.before(section);
      else this.end.before(section);
      this.groups = where === "first" ? new Map([[name, list], ...this.groups]) : this.groups.set(name, list);
    }
    return list;
  }

  // What is new goes on top, or waits behind the button while somebody reads further down; what changed, changes in place.
  merge(data) {
    this.head(data.totalCount);
    const fresh = data.images.filter((image) => !this.tiles.has(image.number));
    if (fresh.length === data.images.length && this.images.length) { this.redrawLater(data); return; }
    for (const image of data.images) if (this.tiles.has(image.number)) this.update(image);
    for (const image of fresh.reverse()) this.arrive(image);
    if (fresh.length) this.main.querySelector(".notice")?.remove();
    this.lightbox.renew();
    this.pill();
  }

  update(image) {
    const place = this.images.findIndex((known) => known.number === image.number);
    const item = this.tiles.get(image.number);
    const before = this.images[place];
    this.images[place] = image;
    if (before.updatedAt !== image.updatedAt || before.favorite !== image.favorite || before.retrying !== image.retrying) {
      become(item, image);
      this.lightbox.renew(image.number);
    }
  }

  arrive(image) {
    this.images.unshift(image);
    const there = this.plain ? this.making.arrived(image) : null;
    const item = there ?? tile(image);
    this.tiles.set(image.number, item);
    say(`${hasPicture(image) ? "New picture" : "No picture"} ${image.number}`);
    if (there && scrollY < SCROLLED) return;
    if (scrollY >= SCROLLED) this.held.push(image);
    if (!there && scrollY < SCROLLED) this.group(image, "first").prepend(item);
  }

  redrawLater(data) {
    if (scrollY < SCROLLED) { this.reset(); this.draw(data); return; }
    this.held = data.images;
    this.stale = true;
    this.pill();
  }

  pill() {
    const button = byId("arrivals");
    button.hidden = !this.held.length;
    button.textContent = `${this.held.length}${this.stale ? "+" : ""} new ↑`;
  }

  // Moves what has arrived to its day, once nobody is looking elsewhere.
  settle() {
    this.unsettled = scrollY >= SCROLLED;
    if (this.unsettled) return;
    if (this.stale) {
      this.reset();
      this.newest().then((data) => this.draw(data), () => this.pill());
      return;
    }
    const waiting = new Map([...this.making.release(), ...this.held.map((image) => [image.number, this.tiles.get(image.number)])]);
    for (const [number, item] of [...waiting].sort((a, b) => this.age(b[0]) - this.age(a[0]))) {
      const image = this.images.find((known) => known.number === number);
      if (image) this.group(image, "first").prepend(item);
    }
    this.held = [];
    this.pill();
  }

  age(number) {
    return this.images.findIndex((image) => image.number === number);
  }

  async more(limit = PAGE) {
    if (this.loading || !this.next) return false;
    this.loading = true;
    const turn = this.turn;
    try {
      const page = await get(address(this.path, this.parameters({ cursor: this.next, limit })), { signal: this.signal });
      if (turn !== this.turn) return false;
      this.next = page.data.next;
      this.append(page.data.images);
      this.loading = false;
      this.watcher.unobserve(this.end); // observing anew reports at once if the end is still in sight
      this.watcher.observe(this.end);
      return true;
    } catch {
      if (turn === this.turn) setTimeout(() => { this.loading = false; this.more(); }, 3000);
      return false;
    }
  }

  nothing() {
    const offer = (show, text) => el("button", { type: "button", onclick: () => { byId("search").value = ""; byId("filter").value = show; this.ask(); } }, text);
    const clear = offer("", "Clear");
    const { failed } = this.character.counts;
    if (this.query.q) this.instead(`No prompt contains “${this.query.q}”`, null, clear);
    else if (this.query.show) this.instead("Nothing of this kind here.", null, clear);
    else if (failed) this.instead("No picture came out.", `${counted(failed, "image")} failed.`, offer("missing", "Show why"));
    else this.instead("Nothing here yet.", "Drop a file into jobs/.");
  }

  instead(title, text, ...more) {
    this.main.querySelector(".notice")?.remove();
    this.main.prepend(el("div", { class: "notice" }, el("strong", {}, title), text, ...more));
  }

  // `here` is true where the page itself is what Back leads to.
  async openFromAddress(here = false) {
    const number = Number(/^#(\d+)$/.exec(location.hash)?.[1]);
    if (!number) { this.lightbox.close(); return; }
    while (!this.images.some((image) => image.number === number) && (await this.more(MOST)));
    if (this.images.some((image) => image.number === number)) this.lightbox.show(number, here);
  }

  focus(number) {
    this.tiles.get(number)?.querySelector("a")?.focus({ preventScroll: true });
  }
}

export function showGallery(id, signal) {
  const view = new Gallery(id, signal);
  return { path: `/api/characters/${encodeURIComponent(id)}`, changed: (character) => view.changed(character) };
}
