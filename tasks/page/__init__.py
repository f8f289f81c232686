"""HTML, Markdown and charts; what they show is not known here."""
