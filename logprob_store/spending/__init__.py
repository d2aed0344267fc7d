"""What a run may spend (`budget`), what tokens cost (`prices`), and how many a request may take."""
