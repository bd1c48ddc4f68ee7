"""Session IDs, the signatures that vouch for them, and encryption. No records, no HTTP."""
