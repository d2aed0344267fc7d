"""A run as one page to read: `write_report` in `report_file`; its numbers, charts and samples each in a module."""
