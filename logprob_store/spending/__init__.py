"""What a run may spend (`budget`), what tokens cost (`prices`), and how many tokens a request may take."""
