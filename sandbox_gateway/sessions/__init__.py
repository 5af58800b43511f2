"""Discord's gateway as one sandbox sees it: sessions of unmodified bots, fed from the sandbox's stream."""
