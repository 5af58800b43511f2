// An ordinary bot on Eris. Nothing in it knows of sandboxes.
"use strict";

const Eris = require("eris");

const bot = new Eris(`Bot ${process.env[process.argv[2] || "DISCORD_TOKEN"]}`, {
  intents: ["guilds", "guildMembers", "guildMessages", "messageContent"],
  restMode: true,
});

bot.on("shardReady", () => console.log("ready", ...[...bot.guilds.keys()].sort()));
bot.on("shardResume", () => console.log("resumed"));
bot.on("error", (error) => console.error(error));

bot.once("ready", async () => {
  const option = { type: 3, name: "text", description: "what", required: true };
  await bot.bulkEditCommands([
    { type: 1, name: "echo", description: "Says it again", options: [option] },
    { type: 1, name: "slow", description: "Takes its time" },
    { type: 1, name: "ask", description: "Asks with a button and a form" },
  ]);
});

const row = (component) => [{ type: 1, components: [component] }];
const button = { type: 2, style: 1, label: "Open", custom_id: "open" };
const text = { type: 4, style: 1, label: "Text", custom_id: "text" };

bot.on("interactionCreate", async (interaction) => {
  if (interaction instanceof Eris.CommandInteraction) {
    const { name, options } = interaction.data;
    if (name === "echo") {
      await interaction.createMessage(`echo ${options[0].value}`);
    } else if (name === "slow") {
      await interaction.defer();
      await interaction.createFollowup("at last");
    } else if (name === "ask") {
      await interaction.createMessage({ content: "Yes?", components: row(button) });
    }
  } else if (interaction instanceof Eris.ComponentInteraction) {
    await interaction.createModal({ title: "A form", custom_id: "form", components: row(text) });
  } else if (interaction instanceof Eris.ModalSubmitInteraction) {
    await interaction.createMessage(`form ${interaction.data.components[0].components[0].value}`);
  }
});

bot.on("messageCreate", async (message) => {
  const [word, ...others] = message.content.split(" ");
  const rest = others.join(" ");
  if (word === "ping") {
    await message.channel.createMessage("pong");
  } else if (word === "event") {
    console.log("saw", rest);
  } else if (word === "file") {
    await message.channel.createMessage("", { file: Buffer.from("from the bot"), name: "notes.txt" });
  } else if (word === "members") {
    console.log("members", (await message.channel.guild.fetchMembers()).length);
  } else if (word === "elsewhere") {
    try {
      await bot.createMessage(rest, "hello");
    } catch (error) {
      console.log("refused", error.res.statusCode, error.code);
    }
  }
});

process.on("SIGINT", () => bot.disconnect({ reconnect: false }) || process.exit(0));
bot.connect().catch((error) => {
  console.error(error);
  process.exit(1);
});
