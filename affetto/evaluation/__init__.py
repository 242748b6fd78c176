"""Critics and metrics: how well what was asked for was got."""
