"""From raw frames to slices: preprocessing, the projection window, backprojection."""
