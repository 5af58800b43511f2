"""The sandboxes' own NATS server: an account for each sandbox, which the bot lends and takes back.

The accounts, the slots `S000` and so on, stand in the server's configuration. The server asks the bot who may
log in to which one.
"""
