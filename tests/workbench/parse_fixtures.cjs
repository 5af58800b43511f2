// Gives frames to discord.js as its connection does, and says what came of each.
"use strict";

const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { Client, Events, IntentsBitField, Partials } = require("discord.js");

const handlers = require(join(require.resolve("discord.js"), "..", "client", "websocket", "handlers"));
const { before, frames } = JSON.parse(readFileSync(0));
const said = {};
let current = "";

process.on("warning", (warning) => (said[current] ??= []).push(`warning: ${warning.message}`));
process.on("unhandledRejection", (error) => (said[current] ??= []).push(`failed: ${error}`));

function bot() {
  const client = new Client({
    intents: Object.values(IntentsBitField.Flags).filter(Number.isInteger),
    partials: Object.values(Partials).filter(Number.isInteger),
  });
  client.on(Events.Error, (error) => said[current].push(`failed: ${error}`));
  client.on(Events.Warn, (text) => said[current].push(`warning: ${text}`));
  return client;
}

function give(client, type, d) {
  const shard = { id: 0, closeSequence: 0, sessionInfo: { sequence: 1 }, replayed: 0, gotGuild() {}, checkReady() {} };
  const handler = handlers[type];
  if (!handler) return false;
  handler(client, { t: type, s: 1, op: 0, d }, shard);
  return true;
}

for (const [type, d] of Object.entries(frames)) {
  current = type;
  said[type] = [];
  try {
    const client = bot();
    for (const [earlier, its] of before) give(client, earlier, structuredClone(its));
    const emit = client.emit;
    client.emit = function (event, ...rest) {
      said[type].push(event);
      return emit.call(this, event, ...rest);
    };
    if (!give(client, type, d)) said[type].push("unknown");
  } catch (error) {
    said[type].push(`failed: ${error.stack}`);
  }
}
setImmediate(() => {
  process.stdout.write(JSON.stringify(said), () => process.exit(0));
});
