"""Raw answers by request key (`answers`), and which process asks for which key (`claims`)."""
