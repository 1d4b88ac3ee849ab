"""What people look at: figures, tables, one page."""
