"""A Jetson that is not there. Every figure it yields is labelled EMULATED."""
