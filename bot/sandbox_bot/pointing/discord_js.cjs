// Points discord.js at the sandbox's endpoint: `sandboxctl exec` names this file in NODE_OPTIONS. The gateway's
// address is asked for there. The address has no version: discord.js adds its own.
"use strict";

const Module = require("node:module");

const api = (process.env.DISCORD_API_URL || "").replace(/\/v[0-9]+\/?$/, "");

function cannot(error) {
  process.stderr.write(`sandboxctl: this version of discord.js can't be pointed at the sandbox (${error})\n`);
}

// What is loaded by require(), discord.js itself among it.
function changeRequired() {
  const load = Module._load;
  Module._load = function (request, ...others) {
    const exports = load.call(this, request, ...others);
    if (request === "@discordjs/rest") {
      try {
        exports.DefaultRestOptions.api = api;
      } catch (error) {
        cannot(error);
      }
    }
    return exports;
  };
}

// The library's other copy, which a program gets that imports it by itself.
function changeImported() {
  const text = `
    const change = (url, found) => {
      if (/\\/@discordjs\\/rest\\/dist\\/(index|web)\\.mjs$/.test(url) && found.source) {
        const added = "\\nDefaultRestOptions.api = " + ${JSON.stringify(JSON.stringify(api))} + ";\\n";
        return { ...found, source: Buffer.from(found.source).toString() + added };
      }
      return found;
    };`;
  if (Module.registerHooks) {
    const change = new Function(`${text} return change;`)();
    Module.registerHooks({ load: (url, context, next) => change(url, next(url, context)) });
  } else if (Module.register) {
    const hooks = `${text} export const load = async (url, context, next) => change(url, await next(url, context));`;
    Module.register(`data:text/javascript,${encodeURIComponent(hooks)}`);
  }
}

if (api) {
  changeRequired();
  changeImported();
}
