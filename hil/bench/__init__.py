"""The project's claims about itself, as programs that anyone can run again."""
