"""Numbers and tokens -> media, one folder for each generator; generators never import each other."""
