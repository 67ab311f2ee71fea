// "In the making": what is drawn now and what waits, each tile turning into its picture where it stands.

import { address, get } from "./api.js";
import { el } from "./dom.js";
import { become, tick, tile } from "./tiles.js";
import { counted, ordinal } from "./words.js";

const MOST_RUNNING = 60;
const MOST_WAITING = 12;
const MOST_JOBS = 50;
const RESTS = 4000; // milliseconds an arrived picture stays where it was made

export class Making {
  constructor(path, settled, arrived) {
    this.path = path;
    this.hasArrived = arrived;
    this.settled = settled;
    this.tiles = new Map();
    this.finished = new Map();
    this.list = el("ul", { class: "tiles coming", "aria-label": "In the making" });
    this.why = el("p", { class: "waits", hidden: true });
    this.rest = el("p", { class: "loading", hidden: true });
    this.section = el("section", { hidden: true }, el("h2", {}, "In the making"), this.why, this.list, this.rest);
    setInterval(() => tick(this.list), 1000);
  }

  get size() {
    return this.tiles.size + this.finished.size;
  }

  async refresh(counts) {
    const running = counts.running ? (await get(address(this.path, { status: "running", limit: MOST_RUNNING }))).data.images : [];
    const waiting = counts.queued ? await this.first(counts.queued) : [];
    const due = new Map([...running.reverse().map((image) => [image, ""]), ...waiting]);
    const numbers = new Set([...due.keys()].map((image) => image.number));
    for (const [image, note] of due) if (!this.hasArrived(image.number)) this.put(image, note); // it may have, while this was asked
    // What is no longer due has arrived, and turns into its picture as soon as that is read; or it was cancelled.
    for (const [number, item] of this.tiles) {
      if (!numbers.has(number)) {
        setTimeout(() => { if (this.tiles.get(number) === item && !numbers.has(number)) this.drop(number); }, RESTS);
      }
    }
    const unseen = counts.queued - waiting.length;
    this.rest.hidden = unseen <= 0;
    this.rest.textContent = `and ${counted(unseen, "more waiting", "more waiting")}`;
    await this.explain(counts, waiting[0]?.[0]);
    this.show();
  }

  // While nothing is drawn, what is waited for stands here: a back end that is down, the store, a pause.
  async explain(counts, next) {
    const { jobs } = next && !counts.running ? (await get(address("/api/jobs", { limit: MOST_JOBS }))).data : { jobs: [] };
    const reason = jobs.find((job) => job.jobId === next?.jobId)?.reason;
    this.why.hidden = !reason || reason.startsWith("waits for its turn");
    if (!this.why.hidden) this.why.textContent = reason;
  }

  // The server answers the highest numbers first; those that come next are the lowest.
  async first(count) {
    if (count > 1000) return [];
    const { data } = await get(address(this.path, { status: "queued", limit: 1000 }));
    return data.images.reverse().slice(0, MOST_WAITING).map((image, place) => [image, `waiting, ${ordinal(place + 1)}`]);
  }

  put(image, note) {
    const item = this.tiles.get(image.number);
    if (item) {
      if (item.dataset.note !== note || item.dataset.updated !== image.updatedAt) become(item, image, note);
      item.dataset.note = note;
      return;
    }
    const made = tile(image, note);
    made.dataset.note = note;
    this.tiles.set(image.number, made);
    const after = [...this.list.children].find((other) => Number(other.dataset.number) > image.number);
    this.list.insertBefore(made, after ?? null);
  }

  // Returns the tile in which the picture now stands, or null where none was being made here.
  arrived(image) {
    const item = this.tiles.get(image.number);
    if (!item) return null;
    this.tiles.delete(image.number);
    become(item, image);
    this.finished.set(image.number, item);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { if (!this.tiles.size || this.finished.size > MOST_WAITING) this.settled(); }, RESTS);
    return item;
  }

  release() {
    const all = [...this.finished];
    this.finished.clear();
    queueMicrotask(() => this.show());
    return all;
  }

  // The grid is drawn anew, with what has arrived in it.
  forget() {
    for (const item of this.finished.values()) item.remove();
    this.finished.clear();
    this.show();
  }

  drop(number) {
    this.tiles.get(number)?.remove();
    this.tiles.delete(number);
    this.show();
    if (!this.tiles.size && this.finished.size) this.settled();
  }

  show() {
    this.section.hidden = !this.size;
  }
}
