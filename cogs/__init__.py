"""The Discord edge: extensions that work in this project's bot and in somebody else's."""
