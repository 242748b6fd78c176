"""The head that every face of affetto is made of: its shape, its 52 expressions, and its renderers."""
