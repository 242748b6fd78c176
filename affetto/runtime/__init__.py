"""What every room stands on: errors with exit codes, devices, attention, progress, safe file writing."""
