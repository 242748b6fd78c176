"""Face animation: the ARKit curves and the files and streams that carry them."""
