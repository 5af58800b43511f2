// An ordinary bot on discord.js. Nothing in it knows of sandboxes.
"use strict";

const {
  ActionRowBuilder, ButtonBuilder, ButtonStyle, Client, GatewayIntentBits, ModalBuilder, TextInputBuilder,
  TextInputStyle,
} = require("discord.js");

const bot = new Client({
  intents: [
    GatewayIntentBits.Guilds, GatewayIntentBits.GuildMembers, GatewayIntentBits.GuildMessages,
    GatewayIntentBits.MessageContent,
  ],
});

const here = () => [...bot.guilds.cache.filter((guild) => guild.available).keys()].sort();
bot.on("shardReady", () => console.log("ready", ...here()));
bot.on("shardResume", () => console.log("resumed"));

bot.once("clientReady", async () => {
  const option = { type: 3, name: "text", description: "what", required: true };
  await bot.application.commands.set([
    { name: "echo", description: "Says it again", options: [option] },
    { name: "slow", description: "Takes its time" },
    { name: "ask", description: "Asks with a button and a form" },
  ]);
});

const button = new ButtonBuilder().setCustomId("open").setLabel("Open").setStyle(ButtonStyle.Primary);
const text = new TextInputBuilder().setCustomId("text").setLabel("Text").setStyle(TextInputStyle.Short);
const form = new ModalBuilder().setCustomId("form").setTitle("A form");
form.addComponents(new ActionRowBuilder().addComponents(text));

bot.on("interactionCreate", async (interaction) => {
  if (interaction.isChatInputCommand()) {
    // By the command that has the event's id, as this bot has registered it.
    const name = interaction.command.name;
    if (name === "echo") {
      await interaction.reply(`echo ${interaction.options.getString("text")}`);
    } else if (name === "slow") {
      await interaction.deferReply();
      await interaction.followUp("at last");
    } else if (name === "ask") {
      await interaction.reply({ content: "Yes?", components: [new ActionRowBuilder().addComponents(button)] });
    }
  } else if (interaction.isButton()) {
    await interaction.showModal(form);
  } else if (interaction.isModalSubmit()) {
    await interaction.reply(`form ${interaction.fields.getTextInputValue("text")}`);
  }
});

bot.on("messageCreate", async (message) => {
  const [word, ...others] = message.content.split(" ");
  const rest = others.join(" ");
  if (word === "ping") {
    await message.channel.send("pong");
  } else if (word === "event") {
    console.log("saw", rest);
  } else if (word === "file") {
    await message.channel.send({ files: [{ attachment: Buffer.from("from the bot"), name: "notes.txt" }] });
  } else if (word === "members") {
    console.log("members", (await message.guild.members.fetch()).size);
  } else if (word === "elsewhere") {
    try {
      await bot.rest.post(`/channels/${rest}/messages`, { body: { content: "hello" } });
    } catch (error) {
      console.log("refused", error.status, error.code);
    }
  }
});

process.on("SIGINT", () => bot.destroy().then(() => process.exit(0)));
bot.login(process.env[process.argv[2] || "DISCORD_TOKEN"]);
