"""Reading and writing media. The only room that decodes files from outside."""
