"""Converters from the formats in which packages carry weights to ONNX. For ``launch.py models`` alone."""
