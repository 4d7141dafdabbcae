"""Results as text and JSON; the I/O ends of the pipeline."""
