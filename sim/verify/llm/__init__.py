"""Properties proposed by language models: their replies are data, checked like anybody's."""
