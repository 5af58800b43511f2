// Points discord.js, Eris and Oceanic at the sandbox's endpoint: `sandboxctl exec` names this file in NODE_OPTIONS.
// The gateway's address is asked for there. The address has no version: each library adds its own.
"use strict";

const Module = require("node:module");

const api = (process.env.DISCORD_API_URL || "").replace(/\/v[0-9]+\/?$/, "");
const known = "https://discord.com/api/";

function cannot(error) {
  process.stderr.write(`sandboxctl: this version of discord.js can't be pointed at the sandbox (${error})\n`);
}

function movedFetch(fetch) {
  return (resource, ...others) => {
    const url = typeof resource === "string" || resource instanceof URL ? String(resource) : "";
    return fetch(url.startsWith(known) ? `${api}/${url.slice(known.length)}` : resource, ...others);
  };
}

// What is loaded by require(), discord.js itself among it.
function changeRequired() {
  const load = Module._load;
  const changed = new WeakSet();
  Module._load = function (request, ...others) {
    const exports = load.call(this, request, ...others);
    if (request === "undici" && exports.fetch && !changed.has(exports)) {
      // With this one discord.js asks how many shards there are.
      changed.add(exports);
      exports.fetch = movedFetch(exports.fetch);
    }
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

// Eris sends by node:https, Oceanic by fetch, and both to the one address that they know.
function changeRequests() {
  const http = require("node:http");
  const https = require("node:https");
  const place = new URL(api);
  const { request } = https;
  https.request = function (options, ...others) {
    const { host, hostname = host, path = "" } = options || {};
    if (hostname !== "discord.com" || !path.startsWith("/api/")) {
      return request.call(this, options, ...others);
    }
    const there = { protocol: place.protocol, host: place.hostname, hostname: place.hostname, port: place.port };
    const moved = { ...options, ...there, path: place.pathname + path.slice("/api".length), agent: undefined };
    return (place.protocol === "https:" ? request : http.request)(moved, ...others);
  };
  Module.syncBuiltinESMExports();
  if (globalThis.fetch) {
    globalThis.fetch = movedFetch(globalThis.fetch);
  }
}

if (api) {
  changeRequests();
  changeRequired();
  changeImported();
}
