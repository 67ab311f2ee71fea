// Writes a picture back as the job file that would ask for it.

// Words that YAML readers of other programs would take for something else than text.
const SPECIAL = /^(true|false|yes|no|on|off|null|~|[-+.]?[0-9].*)$/i;
const LEAST = 64; // pixels that a job may ask for
const MOST = 4096;
const PLAIN = /^[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\u00c0-\u024f ,.'()/+_-]*$/;

// A text as a YAML scalar: bare where no reader could mistake it, else quoted as JSON, which YAML reads alike.
export function scalar(value) {
  if (typeof value === "number") return String(value);
  const text = String(value);
  return PLAIN.test(text) && !SPECIAL.test(text) && text === text.trim() ? text : JSON.stringify(text);
}

// With one image the seed is kept, so the same picture comes out; with several it is left to be drawn, for new ones.
export function jobFile(image, characterId, { quantity = 1, prompt = image.prompt } = {}) {
  const lines = [
    `character: {id: ${inFlow(characterId)}}`,
    `prompt: ${scalar(prompt ?? "")}`,
  ];
  const add = (key, value) => {
    if (value !== null && value !== undefined && value !== "") lines.push(`${key}: ${scalar(value)}`);
  };
  add("negative_prompt", image.negativePrompt);
  if (quantity !== 1) add("quantity", quantity);
  add("style", image.style);
  if ([image.width, image.height].every((side) => side >= LEAST && side <= MOST)) {
    add("width", image.width);
    add("height", image.height);
  }
  if (quantity === 1) add("seed", image.seed);
  add("model", image.model);
  add("steps", image.steps);
  add("cfg_scale", image.cfgScale);
  add("sampler_name", image.samplerName);
  if (image.labels?.length) lines.push(`labels: [${image.labels.map(inFlow).join(", ")}]`);
  return `${lines.join("\n")}\n`;
}

// Inside braces and brackets a comma would end the text.
function inFlow(value) {
  return /^[A-Za-z][A-Za-z0-9_-]*$/.test(value) && !SPECIAL.test(value) ? value : JSON.stringify(value);
}

// What the job said of this picture: the prompt sent has the style's template in it already, and would get it twice.
export function promptOf(job, number) {
  if (typeof job.prompt === "string") return job.prompt;
  const place = job.images.findIndex((image) => image.number === number);
  const each = job.images.length / job.prompt.length;
  return place < 0 ? null : job.prompt[Math.floor(place / each)] ?? null;
}
