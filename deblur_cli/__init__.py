"""Remove motion blur from photographs, guided by a semantic prior.

The public face is ``deblurrer.Deblurrer``, ``files.photo`` and ``pixels.metrics``; the command is ``deblur``.
Importing this package imports nothing else.
"""

__version__ = "0.1.0"
