// Numbers, moments and reasons as people read them.

const DAY = 86_400_000;
const dayOf = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

export function day(moment, now = new Date()) {
  const date = new Date(moment);
  const ago = Math.round((dayOf(now) - dayOf(date)) / DAY);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
}

export const time = (moment) => new Date(moment).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

export function when(moment) {
  const name = day(moment);
  return `${name === "Today" || name === "Yesterday" ? name.toLowerCase() : name} ${time(moment)}`;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export function ordinal(n) {
  const last = n % 100 > 10 && n % 100 < 14 ? 0 : n % 10;
  return n + (["th", "st", "nd", "rd"][last] ?? "th");
}

export const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en-GB")} ${n === 1 ? one : many}`;

export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export const reason = (image) => image.error?.message || image.error?.code?.replaceAll("_", " ") || "given up";
export const shortReason = (image) => image.error?.code?.replaceAll("_", " ") || "given up";
