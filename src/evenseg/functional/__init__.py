"""Pure tensor functions: the maths of the papers, without state and without devices."""
