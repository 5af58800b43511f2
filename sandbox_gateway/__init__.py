"""Discord as a sandbox sees it: a gateway and a REST API for bots that know nothing of sandboxes."""
