"""Many photos: one pipeline in one process, several of them on one machine, or on a cluster."""
