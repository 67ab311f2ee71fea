// Decides what this address shows, and what stands there instead: signed out, not here, not reached.

import { NotHere, SignedOut, follow, forgetToken, hasToken, keepToken, takeTokenFromAddress } from "./api.js";
import { byId, el } from "./dom.js";
import { showGallery } from "./gallery.js";
import { showHome } from "./home.js";
import { time } from "./words.js";

let running = null;

function reached(since) {
  const bar = byId("offline");
  const text = since === true ? "" : `Not reached since ${time(since)}; trying again`;
  if (bar.textContent !== text) bar.textContent = text;
  bar.hidden = since === true;
}

function alone(...children) {
  running?.abort();
  for (const id of ["find", "arrivals", "title", "slash", "offline"]) byId(id).hidden = true;
  byId("find").reset();
  byId("leave").hidden = !hasToken();
  for (const id of ["title", "summary", "said"]) byId(id).textContent = "";
  document.title = "Pipeline";
  byId("main").replaceChildren(el("div", { class: "notice" }, ...children));
}

function signIn(problem = "") {
  forgetToken();
  const field = el("input", { type: "password", name: "token", "aria-label": "Token", placeholder: "Token", autocomplete: "off", spellcheck: "false", required: true });
  const form = el("form", { class: "signin", onsubmit: (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    start();
  } }, field, el("button", { type: "submit" }, "Sign in"));
  alone(
    el("h1", {}, "Signed out"),
    "This gallery opens with a token.",
    form,
    el("p", { class: "problem", role: "alert" }, problem),
    el("p", {}, "On the machine that runs the pipeline, ", el("code", {}, "pipeline gallery --open"), " opens it signed in."),
  );
  field.focus();
}

function notHere() {
  alone(el("h1", {}, "Not here"), "No character of yours has this id. ", el("a", { href: "/" }, el("u", {}, "All characters")));
}

async function start() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const match = /^\/gallery\/([^/]+)\/?$/.exec(location.pathname);
  document.body.classList.toggle("at-home", !match);
  if (!hasToken()) { signIn(); return; }
  byId("leave").hidden = false;
  try {
    const view = match ? showGallery(decodeURIComponent(match[1]), signal) : showHome(signal);
    await follow(view.path, { changed: view.changed, reached, signal });
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof SignedOut) {
      signIn("That token opens nothing here; it may have expired or been revoked.");
    } else if (error instanceof NotHere || error instanceof URIError) {
      notHere();
    } else {
      alone(el("h1", {}, "This page cannot go on"), error.message || "An answer could not be understood.");
    }
  }
}

takeTokenFromAddress();
byId("leave").addEventListener("click", () => signIn());
addEventListener("pageshow", (event) => { if (event.persisted && !hasToken()) signIn(); }); // as it was left, by Back
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#t=")) return;
  takeTokenFromAddress();
  start();
});
start();
