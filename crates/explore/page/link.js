// SPDX-License-Identifier: MIT OR Apache-2.0
// Links that carry what is explained. It is all in the fragment, which a browser sends to no server.

/// Longer links get lost in mail and chat.
const LONGEST_LINK = 16000;

const toBase64 = (bytes) => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};

const fromBase64 = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (digit) => digit.charCodeAt(0));

/// `bytes` through a (de)compressor; at most `most` bytes come out.
async function through(stream, bytes, most) {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) throw new Error("too long");
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/// The fragment for this question, `#` first; null where it would be too long.
async function fragmentOf({ kind, text, options }) {
  const words = new URLSearchParams({ kind });
  for (const [name, value] of Object.entries(options)) words.set(name, value);
  const plain = new URLSearchParams(words);
  plain.set("text", text);
  let fragment = "#" + plain;
  if (fragment.length > 600 && typeof CompressionStream === "function") {
    if (text.length > 64 * LONGEST_LINK) return null;
    words.set("z", toBase64(await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(text), Infinity)));
    const packed = "#" + words;
    if (packed.length < fragment.length) fragment = packed;
  }
  return fragment.length <= LONGEST_LINK ? fragment : null;
}

/// What a fragment asks for: {fields} or {kind, text, options}; null for nothing, {error} for a broken one.
async function questionOf(fragment) {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  if (words.has("fields")) return { fields: words.get("fields") };
  if (!words.has("text") && !words.has("z")) return null;
  const { kind = "auto", text, z, ...options } = Object.fromEntries(words);
  if (z === undefined) return { kind, text, options };
  try {
    const bytes = await through(new DecompressionStream("deflate-raw"), fromBase64(z), 64 * LONGEST_LINK);
    return { kind, text: new TextDecoder().decode(bytes), options };
  } catch {
    return { error: "The link is damaged: part of it is missing. Ask for it again." };
  }
}
