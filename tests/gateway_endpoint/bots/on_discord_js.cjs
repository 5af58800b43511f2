// An ordinary bot on discord.js. Nothing in it knows of sandboxes.
"use strict";

const { Client, GatewayIntentBits } = require("discord.js");

const bot = new Client({
  intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildMessages, GatewayIntentBits.MessageContent],
});

bot.once("clientReady", async () => {
  const option = { type: 3, name: "text", description: "what", required: true };
  await bot.application.commands.set([{ name: "echo", description: "Says it again", options: [option] }]);
  console.log("ready", ...[...bot.guilds.cache.keys()].sort());
});

bot.on("interactionCreate", async (interaction) => {
  if (interaction.isChatInputCommand()) {
    await interaction.reply(`${interaction.command.name} ${interaction.options.getString("text")}`);
  }
});

bot.on("messageCreate", async (message) => {
  if (message.content === "ping") {
    await message.channel.send("pong");
  } else if (message.content.startsWith("elsewhere ")) {
    try {
      await bot.rest.post(`/channels/${message.content.split(" ")[1]}/messages`, { body: { content: "hello" } });
    } catch (error) {
      console.log("refused", error.status, error.code);
    }
  }
});

process.on("SIGINT", () => bot.destroy().then(() => process.exit(0)));
bot.login(process.env[process.argv[2] || "DISCORD_TOKEN"]);
