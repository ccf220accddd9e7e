"""What it runs on: components with typed signatures."""
