"""What is read: tables, comparisons, plots and the page, made from run records alone."""
