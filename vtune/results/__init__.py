"""What came out: the tables, their summary, and the folder that they are kept in."""
