"""What can be asked for: models, targets, checkpoints, texts; no hardware."""
