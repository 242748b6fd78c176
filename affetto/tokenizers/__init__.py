"""Media as discrete tokens: compound words for music, quantisers, and what is measured on tokens."""
