"""What people run: the command line and, later, the studio and batch workers."""
