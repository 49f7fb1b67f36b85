"""One file per way of laying a grid, what may be done to the levels afterwards, and the numbers that were published."""
