"""What is said and when, read off any voice: phones, speech content, its reader, alignment, and the corpora."""
