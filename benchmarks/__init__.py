"""What aiopype costs beside other ways to do the same; see README.md."""
