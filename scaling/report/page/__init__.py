"""`report.html`: one page that needs nothing but itself. Colours live in `page.css`, for light and for dark."""
