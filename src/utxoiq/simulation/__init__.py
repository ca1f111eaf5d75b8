"""An invented Bitcoin economy in real consensus bytes: for the demo and the laboratory. Never real money."""
