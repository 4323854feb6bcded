"""One engine on one device becomes a measurement that states its own error and validity."""
