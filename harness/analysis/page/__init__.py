"""The report as its readers see it: sections, tables and provenance, as HTML, Markdown and LaTeX."""
