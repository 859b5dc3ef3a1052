"""The API: one resource a file, each with the table of its routes."""
