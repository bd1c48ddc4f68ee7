"""What a session is made of, in plain values: fields, notes, codec. No store, no HTTP, no clock."""
