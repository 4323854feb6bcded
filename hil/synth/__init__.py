"""The synthesis loop: generator, inquisitor, requirements, certificates, run store."""
