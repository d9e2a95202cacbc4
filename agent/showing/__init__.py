"""What people look at: the terminal, pictures for reports, Rerun."""
