"""How likely each label was at a place in the answer, over all its spellings."""
