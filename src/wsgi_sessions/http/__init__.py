"""One request and its response: how a token travels, and what the headers say."""
