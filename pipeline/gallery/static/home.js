// One card a character: the newest picture, the name, how many, since when.

import { byId, el, webAddress } from "./dom.js";
import { address, get } from "./api.js";
import { counted, when } from "./words.js";

const MOST = 1000;

function card(character) {
  const { newest, counts } = character;
  const making = counts.queued + counts.running;
  const shown = counts.done + counts.placeholder;
  const source = newest && webAddress(newest.thumbnailUrl);
  const picture = source ? el("img", { src: source, alt: "", loading: "lazy", decoding: "async", onload: (event) => event.target.classList.add("seen") }) : null;
  const empty = picture ? null : el("span", { class: "stands" }, making ? "in the making" : "no picture yet");
  const lines = [counted(shown, "image") + (newest ? `, ${when(newest.createdAt)}` : "")];
  if (making) lines.push(`${making} in the making`);
  return el("li", {}, el("a", { class: "card", href: `/gallery/${encodeURIComponent(character.characterId)}` },
    el("span", { class: "frame", "--tint": newest?.color }, picture, empty),
    el("strong", {}, character.name),
    ...lines.map((line) => el("small", {}, line))));
}

async function rest(data) {
  const all = [...data.characters];
  let { next } = data;
  while (next && all.length < MOST) {
    const page = await get(address("/api/characters", { cursor: next }));
    all.push(...page.data.characters);
    next = page.data.next;
  }
  return all;
}

export function showHome() {
  document.title = "Pipeline";
  return {
    path: "/api/characters",
    async changed(data) {
      const latest = (character) => character.newest?.createdAt ?? character.createdAt;
      const characters = (await rest(data)).sort((a, b) => latest(b).localeCompare(latest(a)));
      const main = byId("main");
      byId("summary").textContent = data.totalCount ? counted(data.totalCount, "character") : "";
      if (!characters.length) {
        main.replaceChildren(el("div", { class: "notice" }, el("h1", {}, "Nothing here yet."), "Drop a file into ", el("code", {}, "jobs/"), "."));
        return;
      }
      const focused = document.activeElement?.getAttribute("href");
      main.replaceChildren(el("h1", { class: "unseen" }, "Characters"), el("ul", { class: "cards" }, ...characters.map(card)));
      if (focused) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    },
  };
}
