// One card a character: the newest picture, the name, how many, since when.

import { byId, el, webAddress } from "./dom.js";
import { address, get } from "./api.js";
import { loaded } from "./tiles.js";
import { counted, when } from "./words.js";

const MOST = 1000;

class Card {
  constructor(character) {
    this.frame = el("span", { class: "frame" });
    this.name = el("strong", { dir: "auto" });
    this.lines = el("span", { class: "lines" });
    this.link = el("a", { class: "card", href: `/gallery/${encodeURIComponent(character.characterId)}` }, this.frame, this.name, this.lines);
    this.item = el("li", {}, this.link);
  }

  show({ name, newest, counts }) {
    const making = counts.queued + counts.running;
    const lines = [counted(counts.done + counts.placeholder, "image") + (newest ? `, ${when(newest.createdAt)}` : "")];
    if (making) lines.push(`${making} in the making`);
    this.name.textContent = name;
    this.lines.replaceChildren(...lines.map((line) => el("small", {}, line)));
    this.picture(newest, making ? "in the making" : counts.placeholder ? "No picture" : "no picture yet");
    this.item.className = !newest && !making && counts.placeholder ? "nothing" : "";
  }

  picture(newest, otherwise) {
    const source = newest && webAddress(newest.thumbnailUrl);
    if (!source) { this.frame.replaceChildren(el("span", { class: "stands" }, otherwise)); return; }
    if (this.frame.querySelector("img")?.src === source) return;
    this.frame.style.setProperty("--tint", newest.color);
    this.frame.replaceChildren(loaded(source));
  }
}

async function rest(data, signal) {
  const all = [...data.characters];
  let { next } = data;
  while (next && all.length < MOST) {
    const page = await get(address("/api/characters", { cursor: next }), { signal });
    all.push(...page.data.characters);
    next = page.data.next;
  }
  return all;
}

// Only what changed moves: nothing that somebody looks at fades in a second time.
function arrange(list, cards) {
  cards.forEach(({ item }, place) => { if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null); });
  while (list.children.length > cards.length) list.lastChild.remove();
}

export function showHome(signal) {
  document.title = "Pipeline";
  const known = new Map();
  const list = el("ul", { class: "cards", "aria-label": "Characters" });
  const more = el("p", { class: "loading" });
  return {
    path: "/api/characters",
    async changed(data) {
      const latest = (character) => character.newest?.createdAt ?? character.createdAt;
      const characters = (await rest(data, signal)).sort((a, b) => latest(b).localeCompare(latest(a)));
      const main = byId("main");
      byId("summary").textContent = data.totalCount ? counted(data.totalCount, "character") : "";
      if (!characters.length) {
        main.replaceChildren(el("div", { class: "notice" }, el("h1", {}, "Nothing here yet."), "Drop a file into ", el("code", {}, "jobs/"), "."));
        return;
      }
      for (const character of characters) {
        if (!known.has(character.characterId)) known.set(character.characterId, new Card(character));
        known.get(character.characterId).show(character);
      }
      const focused = document.activeElement;
      arrange(list, characters.map((character) => known.get(character.characterId)));
      more.textContent = data.totalCount > characters.length ? `and ${counted(data.totalCount - characters.length, "more", "more")}` : "";
      if (list.parentElement !== main) main.replaceChildren(el("h1", { class: "unseen" }, "Characters"), list, more);
      if (focused !== document.activeElement && list.contains(focused)) focused.focus({ preventScroll: true });
    },
  };
}
