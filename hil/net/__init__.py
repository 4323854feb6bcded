"""Networks: prototypes, tracing, the space of choices, materialising, counting, exporting."""
