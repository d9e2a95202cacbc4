"""Training of the heads under ``engines/weights``. Needs the extra ``train``; never imported at run time."""
