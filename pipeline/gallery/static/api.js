// Talks to the endpoint this page came from. The token lives in this tab's session storage and in a request header,
// nowhere else: no cookie, no address that reaches a server.

const KEY = "pipeline.token";
const LONGEST_PAUSE = 15_000;
const HELD = 25;

export class SignedOut extends Error {}
export class NotHere extends Error {}
export class Refused extends Error {}
export class Unreachable extends Error {}

export function takeTokenFromAddress() {
  const match = /^#t=(.+)$/.exec(location.hash);
  if (!match) return;
  keepToken(decoded(match[1]));
  history.replaceState(null, "", location.pathname + location.search);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const forgetToken = () => sessionStorage.removeItem(KEY);
export const hasToken = () => Boolean(sessionStorage.getItem(KEY));

export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== null && value !== undefined && value !== "") query.set(name, value);
  return query.size ? `${path}${path.includes("?") ? "&" : "?"}${query}` : path;
}

// Resolves to {data, etag}, or to null where nothing has changed since `etag`.
export async function get(path, { etag = null, signal } = {}) {
  const headers = { accept: "application/json" };
  const token = sessionStorage.getItem(KEY);
  if (!token) throw new SignedOut();
  headers.authorization = `Bearer ${token.replace(/[^\x21-\x7e]/g, "")}`;
  if (etag) headers["if-none-match"] = etag;
  const response = await ask(path, headers, signal);
  if (response.status === 304) return null;
  if (response.status === 401) throw new SignedOut();
  if (response.status === 404) throw new NotHere();
  if (response.status >= 500) throw new Unreachable();
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Unreachable();
  }
  if (response.status >= 400) throw new Refused(body.error);
  return { data: body.data, etag: response.headers.get("etag") };
}

// A held request would hear of a lost network only when its time is over, so it is given up at once.
async function ask(path, headers, signal) {
  const request = new AbortController();
  const stop = () => request.abort();
  addEventListener("offline", stop);
  signal?.addEventListener("abort", stop);
  try {
    return await fetch(path, { headers, signal: request.signal, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  } finally {
    removeEventListener("offline", stop);
    signal?.removeEventListener("abort", stop);
  }
}

const pause = (milliseconds, signal) => new Promise((resolve) => {
  const done = () => { clearTimeout(timer); removeEventListener("online", done); resolve(); };
  const timer = setTimeout(done, milliseconds);
  addEventListener("online", done);
  signal?.addEventListener("abort", done, { once: true });
});

const shownAgain = (signal) => new Promise((resolve) => {
  document.addEventListener("visibilitychange", resolve, { once: true });
  signal?.addEventListener("abort", resolve, { once: true });
});

// A browser has six connections to an address, over all tabs: one that nobody looks at holds none.
async function whileSeen(ask, signal) {
  const left = new AbortController();
  const look = () => { if (document.hidden) left.abort(); };
  document.addEventListener("visibilitychange", look);
  try {
    return await ask(AbortSignal.any([left.signal, ...(signal ? [signal] : [])]));
  } catch (error) {
    if (left.signal.aborted) return null;
    throw error;
  } finally {
    document.removeEventListener("visibilitychange", look);
  }
}

// Calls `changed` with the answer now and after every change, for as long as the page lives. `reached` is told how
// the connection does: true, or the moment since when nothing was heard.
export async function follow(path, { changed, reached, signal }) {
  let etag = null;
  let heard = Date.now();
  let wait = 1000;
  while (!signal?.aborted) {
    if (document.hidden) {
      await shownAgain(signal);
      continue;
    }
    const asked = Date.now();
    try {
      const held = address(path, { wait: etag ? HELD : null });
      const answer = await whileSeen((until) => get(held, { etag, signal: until }), signal);
      heard = Date.now();
      wait = 1000;
      reached(true);
      if (signal?.aborted) return;
      if (answer) {
        await changed(answer.data);
        etag = answer.etag;
      } else if (!document.hidden && Date.now() - asked < 1000) {
        await pause(1000, signal);
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof Unreachable)) throw error;
      reached(heard);
      etag = null;
      await pause(wait, signal);
      wait = Math.min(wait * 2, LONGEST_PAUSE);
    }
  }
}
