"""Labels, yes or no, and scores: how likely each of several labels was at one location of an answer."""
