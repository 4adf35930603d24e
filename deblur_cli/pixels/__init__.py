"""Maths on images that does not learn: tensors in, tensors out, no file and no network."""
