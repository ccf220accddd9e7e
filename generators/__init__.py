"""From a request to files."""
