"""HTML, Markdown and charts, independent of what they show."""
