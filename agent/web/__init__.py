"""Small web servers inside the process, and who may speak to them."""
