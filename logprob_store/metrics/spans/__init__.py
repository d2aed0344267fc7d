"""Text, words, sentences, lines and JSON fields: metrics of the spans of text that the tokens spell."""
