// SPDX-License-Identifier: MIT OR Apache-2.0
// Who answers: the WebAssembly module in this page, or the server that it came from.

/// Bytes of a log that are read between two looks at what the user does.
const PIECE = 1 << 18;

class Module {
  constructor(module) {
    this.module = module;
    this.where = "Everything is decoded in this page. Nothing is sent anywhere.";
  }

  static async open(text) {
    const bytes = Uint8Array.from(atob(text), (digit) => digit.charCodeAt(0));
    const engine = new Module(await WebAssembly.compile(bytes));
    await engine.start();
    return engine;
  }

  async start() {
    this.exports = (await WebAssembly.instantiate(this.module)).exports;
  }

  /// What `work` gives. A failure in the module may leave it half done: it begins anew, with fresh memory. Work
  /// that was under way stays with the old one, since its blocks are there.
  async guarded(work) {
    const module = this.exports;
    try {
      return await work(module);
    } catch (error) {
      if (error instanceof DOMException) return { error: `The file cannot be read (${error.message}).` };
      if (module === this.exports) await this.start();
      return { error: `The decoder failed (${error.message}). Please report what you gave it.` };
    }
  }

  /// A block with these bytes, as crates/explore/src/exports.rs describes it.
  give(module, bytes) {
    // A pointer is a signed number here.
    const block = module.block_new(bytes.length) >>> 0;
    if (block === 0) throw new Error("out of memory");
    new Uint8Array(module.memory.buffer, block + 4, bytes.length).set(bytes);
    return block;
  }

  /// The answer in a block, which is given up.
  take(module, given) {
    const block = given >>> 0;
    if (block === 0) throw new Error("the answer is too long");
    const { buffer } = module.memory;
    const length = new DataView(buffer).getUint32(block, true);
    const text = new TextDecoder().decode(new Uint8Array(buffer, block + 4, length));
    module.block_free(block);
    return JSON.parse(text);
  }

  ask(question) {
    return this.guarded((module) =>
      this.take(module, module.ask(this.give(module, new TextEncoder().encode(JSON.stringify(question))))));
  }

  /// Reads a log, a piece at a time. `step` hears how many bytes were read, and says whether to go on.
  log(blob, options, step) {
    return this.guarded(async (module) => {
      module.log_open(this.give(module, new TextEncoder().encode(JSON.stringify(options))));
      for (let at = 0; at < blob.size; at += PIECE) {
        const piece = await blob.slice(at, at + PIECE).arrayBuffer();
        if (!step(at)) return null;
        module.log_feed(this.give(module, new Uint8Array(piece)));
        await breathe();
      }
      // Where another one was begun meanwhile, that is the one that would be closed.
      return step(blob.size) ? this.take(module, module.log_close()) : null;
    });
  }
}

class Server {
  constructor() {
    this.where = "Decoded by the smmuv3 on this computer that serves this page. Nothing is sent further.";
  }

  async post(path, headers, body) {
    try {
      const response = await fetch(path, { method: "POST", headers, body });
      if (!response.ok) return { error: `The server refused (${response.status}): ${await response.text()}` };
      return await response.json();
    } catch {
      return { error: "The server does not answer. Is smmuv3 explore still running?" };
    }
  }

  ask(question) {
    return this.post("answer", { "Content-Type": "application/json" }, JSON.stringify(question));
  }

  async log(blob, options, step) {
    step(0);
    // A header takes ASCII alone.
    const given = JSON.stringify(options).replace(/[^ -~]/g, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const answer = await this.post("log", { "Content-Type": "application/octet-stream", "X-Options": given }, blob);
    return step(blob.size) ? answer : null;
  }
}

async function openEngine() {
  const text = byId("module").textContent;
  const served = location.protocol.startsWith("http");
  if (text) {
    try {
      return await Module.open(text);
    } catch (error) {
      if (!served) throw error;
    }
  }
  return new Server();
}
