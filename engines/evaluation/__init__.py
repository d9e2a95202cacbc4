"""How good the encoders and their fusion are on labelled data: what ``launch.py eval`` runs."""
