"""A second opinion: a large model that is asked about what the compact one has heard."""
