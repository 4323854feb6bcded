"""Tasks: data, training, distillation and scores."""
