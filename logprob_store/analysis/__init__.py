"""An opened store and every question to it (`ls.Store`), and calibrators that are fitted on its answers."""
