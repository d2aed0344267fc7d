"""How likely each of several labels was at one location of an answer, over all its spellings."""
