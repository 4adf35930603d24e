"""The scorer: restored images in, the numbers of the field out."""
