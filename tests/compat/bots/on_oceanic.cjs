// An ordinary bot on Oceanic. Nothing in it knows of sandboxes.
"use strict";

const { Client } = require("oceanic.js");

const bot = new Client({
  auth: `Bot ${process.env[process.argv[2] || "DISCORD_TOKEN"]}`,
  gateway: { intents: ["GUILDS", "GUILD_MEMBERS", "GUILD_MESSAGES", "MESSAGE_CONTENT"] },
});

// Oceanic emits shardReady after a RESUME, too.
bot.on("packet", ({ t, d }) => t === "READY" && console.log("ready", ...d.guilds.map(({ id }) => id).sort()));
bot.on("shardResume", () => console.log("resumed"));
bot.on("error", (error) => console.error(error));

bot.once("ready", async () => {
  const option = { type: 3, name: "text", description: "what", required: true };
  await bot.application.bulkEditGlobalCommands([
    { type: 1, name: "echo", description: "Says it again", options: [option] },
    { type: 1, name: "slow", description: "Takes its time" },
    { type: 1, name: "ask", description: "Asks with a button and a form" },
  ]);
});

const row = (component) => [{ type: 1, components: [component] }];
const button = { type: 2, style: 1, label: "Open", customID: "open" };
const text = { type: 4, style: 1, label: "Text", customID: "text" };

bot.on("interactionCreate", async (interaction) => {
  if (interaction.isCommandInteraction()) {
    const { name, options } = interaction.data;
    if (name === "echo") {
      await interaction.createMessage({ content: `echo ${options.getString("text", true)}` });
    } else if (name === "slow") {
      await interaction.defer();
      await interaction.createFollowup({ content: "at last" });
    } else if (name === "ask") {
      await interaction.createMessage({ content: "Yes?", components: row(button) });
    }
  } else if (interaction.isComponentInteraction()) {
    await interaction.createModal({ title: "A form", customID: "form", components: row(text) });
  } else if (interaction.isModalSubmitInteraction()) {
    await interaction.createMessage({ content: `form ${interaction.data.components.getTextInput("text", true)}` });
  }
});

bot.on("messageCreate", async (message) => {
  const [word, ...others] = message.content.split(" ");
  const rest = others.join(" ");
  if (word === "ping") {
    await message.channel.createMessage({ content: "pong" });
  } else if (word === "event") {
    console.log("saw", rest);
  } else if (word === "file") {
    await message.channel.createMessage({ files: [{ contents: Buffer.from("from the bot"), name: "notes.txt" }] });
  } else if (word === "members") {
    console.log("members", (await message.guild.fetchMembers()).length);
  } else if (word === "elsewhere") {
    try {
      await bot.rest.channels.createMessage(rest, { content: "hello" });
    } catch (error) {
      console.log("refused", error.status, error.code);
    }
  }
});

process.on("SIGINT", () => bot.disconnect(false) || process.exit(0));
bot.connect().catch((error) => {
  console.error(error);
  process.exit(1);
});
