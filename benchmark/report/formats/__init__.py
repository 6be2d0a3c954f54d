"""A report as Markdown, LaTeX, CSV, figures and a page."""
