"""Raw answers by request key (`answers`), and locks on the keys that a process asks for (`claims`)."""
