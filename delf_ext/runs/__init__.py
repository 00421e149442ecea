"""Read and write run directories, and open models."""
