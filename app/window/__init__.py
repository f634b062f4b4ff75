"""The main window: session tree, tabs, form, jobs, log, palette, start page and help."""
